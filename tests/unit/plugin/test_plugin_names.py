"""Names: plain, qualified, clashing, unknown."""

from __future__ import annotations

import pytest

from curate.errors import PluginError
from curate.plugin import PluginHost
from tests.unit.plugin.distributions import Site


def test_two_owners_of_a_name_are_both_named_and_still_reachable(site: Site) -> None:
    site.install_stage("curate-one", "dereverb")
    site.install_stage("curate-two", "dereverb")
    host = PluginHost()

    with pytest.raises(PluginError, match=r"curate-one/dereverb or curate-two/dereverb.*--no-plugin"):
        host.stage("dereverb")

    assert host.stage("curate-one/dereverb").load().owner == "curate-one"
    assert host.stage("Curate_Two/dereverb").load().owner == "curate-two"


def test_a_clash_is_no_error_until_the_name_is_asked_for(site: Site) -> None:
    site.install_stage("rival", "merge")
    host = PluginHost()

    assert host.stage("partition").distribution == "curate-speech"
    assert {row.distribution for row in host.rows() if "merge" in row.stages} == {"curate-speech", "rival"}
    with pytest.raises(PluginError, match=r"curate-speech/merge or rival/merge") as clash:
        host.stage("merge")
    assert "(--no-plugin rival)" in str(clash.value)  # curate's own stages cannot be switched off


def test_a_clash_ends_when_one_side_is_switched_off(site: Site) -> None:
    site.install_stage("rival", "merge")

    assert PluginHost(disabled=["rival"]).stage("merge").distribution == "curate-speech"


def test_one_distribution_that_claims_a_name_twice_is_told_so(site: Site) -> None:
    module = site.install_stage("double", "dereverb")
    (site.path / "other_plugin.py").write_text((site.path / f"{module}.py").read_text())
    site.describe("double", f"[curate]\na = {module}\nb = other_plugin\n")

    with pytest.raises(PluginError, match="announced twice by one distribution"):
        PluginHost().stage("double/dereverb")


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    host = PluginHost()

    with pytest.raises(PluginError, match="unknown stage 'asr_nmo': did you mean 'asr_nemo'"):
        host.stage("asr_nmo")
    with pytest.raises(PluginError, match="unknown executor 'locl': did you mean 'local'"):
        host.executor("locl")
    with pytest.raises(PluginError, match=r"unknown recogniser 'zzz': choose from .*nemo"):
        host.recogniser("zzz")


def test_an_unknown_name_points_to_plugins_that_failed_to_load(site: Site) -> None:
    site.install("curate-broken", "import a_module_nobody_has")

    with pytest.raises(PluginError, match=r"(?s)unknown stage 'dereverb'.*curate-broken, which failed to load: Module"):
        PluginHost().stage("dereverb")


def test_a_qualified_name_of_a_failed_plugin_speaks_of_that_plugin_only(site: Site) -> None:
    site.install("curate-broken", "import a_module_nobody_has")
    site.install("curate-unlucky", "import another_module_nobody_has")

    with pytest.raises(PluginError) as caught:
        PluginHost().stage("curate-broken/dereverb")

    assert "curate-broken, which failed" in str(caught.value)
    assert "curate-unlucky" not in str(caught.value)


def test_the_wrong_owner_is_answered_with_the_right_one() -> None:
    with pytest.raises(PluginError, match="did you mean 'curate-speech/merge'"):
        PluginHost().stage("curate-speach/merge")


def test_a_listing_uses_qualified_names_only_where_they_are_needed(site: Site) -> None:
    site.install_stage("rival", "merge")

    stages = PluginHost().stages
    names = [stages.shortest_name(reference) for reference in stages]

    assert {"rival/merge", "curate-speech/merge", "partition"} <= set(names)
    assert "merge" not in names
