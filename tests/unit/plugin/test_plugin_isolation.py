"""One broken plugin is one row with its error, and nobody else notices."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from curate.errors import PluginError
from curate.plugin import PluginHost, PluginStatus
from tests.unit.plugin.distributions import Site

BROKEN = {
    "import error": ("import a_module_nobody_has", "No module named 'a_module_nobody_has'"),
    "exit": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "syntax error": ("def broken(:\n", "SyntaxError"),
    "exception without a text": ("raise ValueError", "ValueError"),
    "hook that raises": (
        "from curate.plugin import hookimpl\n@hookimpl\ndef curate_stages():\n    raise RuntimeError('not today')",
        "RuntimeError: not today",
    ),
    "hook that exits": (
        "from curate.plugin import hookimpl\n@hookimpl\ndef curate_stages():\n    raise SystemExit('bye')",
        "SystemExit: bye",
    ),
    "not a list": (
        "from curate.plugin import hookimpl\n@hookimpl\ndef curate_stages():\n    return 'asr'",
        r"curate_stages\(\) must return a list of StageRef, not str",
    ),
    "nothing returned": (
        "from curate.plugin import hookimpl\n@hookimpl\ndef curate_stages():\n    []",
        "is its `return` missing",
    ),
    "list of something else": (
        "from curate.plugin import hookimpl\n@hookimpl\ndef curate_stages():\n    return ['asr']",
        "must return a list of StageRef, but it holds 'asr'",
    ),
    "references of another kind": (
        "from curate.plugin import ExecutorRef, hookimpl\n"
        "@hookimpl\ndef curate_stages():\n    return [ExecutorRef('x', 'a:B', '')]",
        "list of StageRef, but it holds ExecutorRef",
    ),
    "bad reference": (
        "from curate.plugin import StageRef, hookimpl\n"
        "@hookimpl\ndef curate_stages():\n    return [StageRef('x', 'a', '')]",
        "package.module:Name",
    ),
    "one name twice": (
        "from curate.plugin import StageRef, hookimpl\n"
        "@hookimpl\ndef curate_stages():\n    return [StageRef('x', 'a:B', ''), StageRef('x', 'a:C', '')]",
        "announces 'x' twice",
    ),
    "unknown hook": (
        "from curate.plugin import hookimpl\n@hookimpl\ndef curate_stage():\n    return []",
        r"unknown hook curate_stage: did you mean 'curate_stages'\?",
    ),
    "forgotten decorator": ("def curate_stages():\n    return []", "lacks its decorator"),
    "unknown argument": (
        "from curate.plugin import hookimpl\n@hookimpl\ndef curate_on_progress(evnt):\n    pass",
        "evnt",
    ),
    "wrapper": (
        "from curate.plugin import hookimpl\n@hookimpl(wrapper=True)\ndef curate_stages():\n    return (yield)",
        "is a hook wrapper",
    ),
}


def row_of(host: PluginHost, distribution: str) -> PluginStatus:
    (row,) = [row for row in host.rows() if row.distribution == distribution]
    return row


@pytest.mark.parametrize(("code", "error"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_one_failed_row_and_the_others_work(site: Site, code: str, error: str) -> None:
    site.install_stage("aaa-good", "early")
    site.install("bbb-broken", code)
    site.install_stage("ccc-good", "late")

    host = PluginHost()

    row = row_of(host, "bbb-broken")
    assert (row.status, row.version, row.entry, row.module) == ("failed", "1.0", "main", "bbb_broken_plugin")
    with pytest.raises(PluginError, match=error):
        raise PluginError(row.error)
    assert row.traceback is not None and "Traceback" in row.traceback
    assert (row.stages, row.executors, row.recognisers, row.commands) == ((), (), (), ())
    assert host.stage("early").load().owner == "aaa-good"
    assert host.stage("late").load().owner == "ccc-good"
    assert host.stage("merge").distribution == "curate-speech"


def test_an_interrupt_is_not_taken_for_a_broken_plugin(site: Site) -> None:
    site.install("impatient", "raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        PluginHost()


def test_an_entry_point_that_names_no_module_is_a_failed_row(site: Site) -> None:
    site.describe("hollow", "[curate]\nmain = a_module_nobody_has\n")

    assert "a_module_nobody_has" in str(row_of(PluginHost(), "hollow").error)


def test_an_entry_points_file_that_cannot_be_parsed_is_a_failed_row(site: Site) -> None:
    site.describe("garbled", "[curate]\nthis line has no equals sign\n")

    assert row_of(PluginHost(), "garbled").status == "failed"


def test_a_distribution_without_a_name_harms_nobody(site: Site) -> None:
    site.install_stage("good", "early")
    site.describe("nameless", "[curate]\nmain = a_module_nobody_has\n")
    (site.path / "nameless-1.0.dist-info" / "METADATA").unlink()

    assert row_of(PluginHost(), "good").status == "active"


def test_the_same_entry_name_in_two_distributions_loads_both(site: Site) -> None:
    site.install_stage("one", "first", entry="plugin")
    site.install_stage("two", "second", entry="plugin")

    host = PluginHost()

    assert row_of(host, "one").stages == ("first",)
    assert row_of(host, "two").stages == ("second",)


def test_the_same_module_announced_by_two_distributions_loads_once(site: Site) -> None:
    module = site.install_stage("one", "first")
    site.describe("two", f"[curate]\nmain = {module}\n")

    host = PluginHost()

    assert host.stage("first").distribution == "one"
    assert "it is registered already, as plugin one" in str(row_of(host, "two").error)


def test_an_entry_point_may_name_an_object_but_no_class(site: Site) -> None:
    code = """
        from curate.plugin import StageRef, hookimpl
        class Plugin:
            @hookimpl
            def curate_stages(self):
                return [StageRef("objective", "a:B", "")]
        plugin = Plugin()
    """
    module = site.install("objects", code)
    site.describe("objects", f"[curate]\nmain = {module}:plugin\n")
    site.describe("classes", f"[curate]\nmain = {module}:Plugin\n")

    host = PluginHost()

    assert row_of(host, "objects").stages == ("objective",)
    assert "names the class Plugin" in str(row_of(host, "classes").error)


def test_the_built_in_things_come_through_the_same_door() -> None:
    row = row_of(PluginHost(), "curate-speech")

    assert (row.entry, row.module, row.status) == ("builtin", "curate.plugin.builtin", "active")
    assert {"read_manifest", "asr_nemo", "merge"} <= set(row.stages)
    assert {"run", "plan", "plugins", "stages"} <= set(row.commands)
    assert "local" in row.executors
    assert "nemo" in row.recognisers


def test_a_host_does_not_import_what_references_name(site: Site) -> None:
    site.install_stage("lazy", "sleeper")

    host = PluginHost()
    assert "lazy_stage" not in sys.modules

    host.stage("sleeper").load()
    assert "lazy_stage" in sys.modules


def test_a_curate_whose_own_entry_point_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.distributions", lambda: iter(()))

    host = PluginHost()

    assert row_of(host, "curate-speech").status == "failed"
    with pytest.raises(PluginError, match="install curate again"):
        host.stage("merge")


def test_a_distribution_that_lies_on_the_path_twice_counts_once(site: Site, tmp_path: Path) -> None:
    site.install_stage("good", "early")
    older = Site(tmp_path / "older")
    older.describe("Good", "[curate]\nmain = a_module_nobody_has\n", version="0.9")
    sys.path.append(str(older.path))
    try:
        assert row_of(PluginHost(), "good").version == "1.0"
    finally:
        sys.path.remove(str(older.path))
