"""Observers are told one at a time; one that raises is left out, and the run goes on."""

from __future__ import annotations

import importlib
import sys
from typing import Any, cast

import pytest

from curate.errors import PluginError
from curate.plugin import PluginHost, hookimpl
from curate.plugin.hooks import ANNOUNCING, ERROR_CODES, HOOKS
from tests.unit.plugin.distributions import Site

EVENT = cast("Any", object())


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    @hookimpl
    def curate_on_run_started(self, event: object) -> None:
        self.heard.append(("started", event))

    @hookimpl
    def curate_on_progress(self, event: object) -> None:
        self.heard.append(("progress", event))


class Grumbler(Listener):
    @hookimpl
    def curate_on_progress(self, event: object) -> None:
        super().curate_on_progress(event)
        raise RuntimeError("not today")


def test_every_observer_hook_has_a_typed_method() -> None:
    host = PluginHost()
    for hook in HOOKS:
        if hook not in (*ANNOUNCING, ERROR_CODES):
            assert callable(getattr(host, hook.removeprefix("curate_")))


def test_observers_hear_events_whether_plugin_file_or_object(site: Site) -> None:
    code = """
        from curate.plugin import hookimpl
        heard = []
        @hookimpl
        def curate_on_run_finished(event):
            heard.append(event)
        @hookimpl
        def curate_on_unit_committed():
            heard.append("committed")
    """
    module = site.install("listening", code)
    file = site.path.parent / "my_observer.py"
    file.write_text((site.path / f"{module}.py").read_text())
    host = PluginHost(plugin_files=[file])

    host.on_run_finished(EVENT)
    host.on_unit_committed(EVENT)

    assert importlib.import_module(module).heard == [EVENT, "committed"]
    assert vars(sys.modules[host.rows()[-1].module])["heard"] == [EVENT, "committed"]


def test_an_observer_that_raises_is_reported_once_and_left_out(warnings: list[str]) -> None:
    host, good, bad, other = PluginHost(), Listener(), Grumbler(), Listener()
    with host.observed_by(good, bad, other):
        for _ in range(3):
            host.on_progress(EVENT)
            host.on_run_started(EVENT)

    assert len(bad.heard) == 1
    assert len(good.heard) == len(other.heard) == 6
    (line,) = warnings
    assert "Grumbler" in line and "curate_on_progress" in line and "the run continues" in line
    assert "not today" in line


def test_a_plugin_whose_observer_raises_keeps_its_stages(site: Site) -> None:
    code = """
        from curate.plugin import StageRef, hookimpl
        @hookimpl
        def curate_stages():
            return [StageRef("kept", "a:B", "")]
        @hookimpl
        def curate_on_progress(event):
            raise RuntimeError
    """
    site.install("moody", code)
    host = PluginHost()

    host.on_progress(EVENT)

    assert host.stage("kept").distribution == "moody"


def test_a_failed_plugin_observes_nothing(site: Site) -> None:
    code = """
        from curate.plugin import hookimpl
        heard = []
        @hookimpl
        def curate_on_progress(event):
            heard.append(event)
        @hookimpl
        def curate_stages():
            return None
    """
    module = site.install("failing", code)
    host = PluginHost()

    host.on_progress(EVENT)

    assert importlib.import_module(module).heard == []


def test_an_interrupt_in_an_observer_is_not_swallowed() -> None:
    class Impatient:
        @hookimpl
        def curate_on_progress(self, event: object) -> None:
            raise KeyboardInterrupt

    host = PluginHost()
    with host.observed_by(Impatient()), pytest.raises(KeyboardInterrupt):
        host.on_progress(EVENT)


def test_an_observer_listens_no_longer_than_its_block() -> None:
    host, listener, bad = PluginHost(), Listener(), Grumbler()

    with host.observed_by(listener, bad):
        host.on_progress(EVENT)
    host.on_progress(EVENT)

    assert len(listener.heard) == 1
    with host.observed_by(listener, bad):
        host.on_progress(EVENT)
    assert len(listener.heard) == 2
    assert len(bad.heard) == 2


def test_an_observer_with_wrong_hooks_is_refused_at_once() -> None:
    class Misspelt:
        @hookimpl
        def curate_on_progres(self, event: object) -> None: ...

    class Undecorated:
        def curate_on_progress(self, event: object) -> None: ...

    class Announces:
        @hookimpl
        def curate_stages(self) -> list[object]:
            return []

    host = PluginHost()
    for observer, error in [(Misspelt(), "did you mean 'curate_on_progress'"), (Undecorated(), "lacks its decorator")]:
        with pytest.raises(PluginError, match=error), host.observed_by(observer):
            raise AssertionError("it was registered")
    with (
        pytest.raises(PluginError, match="answers curate_stages, which only plugins may"),
        host.observed_by(Announces()),
    ):
        raise AssertionError("it was registered")


def test_the_same_observer_cannot_listen_twice() -> None:
    host, listener = PluginHost(), Listener()

    with (
        host.observed_by(listener),
        pytest.raises(PluginError, match="it is registered already"),
        host.observed_by(listener),
    ):
        raise AssertionError("it was registered")
