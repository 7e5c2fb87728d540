"""Plugins are switched off by distribution, before they are imported."""

from __future__ import annotations

import sys

import pytest

from curate.errors import PluginError
from curate.plugin import PluginHost
from tests.unit.plugin.distributions import Site


def statuses(host: PluginHost) -> dict[str, str]:
    return {row.distribution: row.status for row in host.rows()}


@pytest.mark.parametrize("spelling", ["curate-loud", "Curate_Loud", "curate.loud"])
def test_a_plugin_that_is_switched_off_is_not_imported(site: Site, spelling: str) -> None:
    module = site.install_stage("curate-loud", "shout")

    host = PluginHost(disabled=[spelling])

    assert module not in sys.modules
    assert statuses(host)["curate-loud"] == "disabled"
    with pytest.raises(PluginError, match=r"(?s)unknown stage 'shout'.*curate-loud, which is off: .*--no-plugin"):
        host.stage("shout")


def test_the_allow_list_keeps_others_from_being_imported(site: Site) -> None:
    site.install_stage("wanted", "one")
    module = site.install_stage("unwanted", "two")

    host = PluginHost(environment={"CURATE_PLUGINS": " Wanted ,"})

    assert module not in sys.modules
    assert statuses(host)["wanted"] == "active"
    assert statuses(host)["unwanted"] == "disabled"
    assert statuses(host)["curate-speech"] == "active"


def test_an_empty_allow_list_leaves_only_the_built_in_plugin(site: Site) -> None:
    site.install_stage("unwanted", "two")

    active = [
        name for name, status in statuses(PluginHost(environment={"CURATE_PLUGINS": ""})).items() if status == "active"
    ]

    assert active == ["curate-speech"]


def test_the_allow_list_is_read_from_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install_stage("unwanted", "two")
    monkeypatch.setenv("CURATE_PLUGINS", "")

    assert statuses(PluginHost())["unwanted"] == "disabled"


def test_no_plugin_wins_over_the_allow_list(site: Site) -> None:
    site.install_stage("both", "one")

    host = PluginHost(disabled=["both"], environment={"CURATE_PLUGINS": "both"})

    assert statuses(host)["both"] == "disabled"


def test_a_misspelt_no_plugin_is_an_error_with_the_nearest_name(site: Site) -> None:
    site.install_stage("curate-loud", "shout")

    with pytest.raises(PluginError, match=r"--no-plugin curate-lout.*did you mean 'curate-loud'"):
        PluginHost(disabled=["curate-lout"])


def test_a_misspelt_name_in_the_allow_list_is_a_failed_row(site: Site) -> None:
    site.install_stage("curate-loud", "shout")

    host = PluginHost(environment={"CURATE_PLUGINS": "curate-lout"})

    (row,) = [row for row in host.rows() if row.distribution == "curate-lout"]
    assert row.status == "failed"
    assert "CURATE_PLUGINS lists it" in str(row.error)
    assert "did you mean 'curate-loud'" in str(row.error)


def test_the_built_in_plugin_cannot_be_switched_off() -> None:
    with pytest.raises(PluginError, match="cannot be switched off"):
        PluginHost(disabled=["curate-speech"])
