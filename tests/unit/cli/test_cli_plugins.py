from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.unit.plugin.distributions import Site


def rows(out: str) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(out)}


def test_json_lists_name_version_status_error_and_what_is_provided(site: Site, curate) -> None:
    site.install_stage("curate-good", "shout")
    site.install("curate-broken", "import a_module_nobody_has", version="2.1")

    outcome = curate("plugins", "--json")
    listed = rows(outcome.out)

    assert outcome.code == 0
    assert listed["curate-good"]["status"] == "active"
    assert listed["curate-good"]["provides"]["stages"] == ["shout"]
    assert listed["curate-good"]["error"] is None
    assert listed["curate-broken"]["status"] == "failed"
    assert listed["curate-broken"]["version"] == "2.1"
    assert "a_module_nobody_has" in listed["curate-broken"]["error"]
    assert "Traceback" in listed["curate-broken"]["traceback"]
    assert "curate-broken failed to load" in outcome.err
    assert "run" in listed["curate-speech"]["provides"]["commands"]


def test_the_table_shows_status_and_error(site: Site, curate) -> None:
    site.install("curate-broken", "raise RuntimeError('[red]hostile[/red]')")

    outcome = curate("plugins")

    assert outcome.code == 0
    assert "curate-broken" in outcome.out
    assert "failed" in outcome.out
    assert "[red]hostile[/red]" in outcome.out
    assert "curate plugins --json" in outcome.err


def test_quiet_says_nothing_about_broken_plugins_beside_the_result(site: Site, curate) -> None:
    site.install("curate-broken", "raise RuntimeError")

    assert curate("--quiet", "stages").err == ""


def test_a_plugin_that_is_switched_off_is_shown_as_such(site: Site, curate) -> None:
    site.install_stage("curate-good", "shout")

    row = rows(curate("--no-plugin", "curate-good", "plugins", "--json").out)["curate-good"]

    assert row["status"] == "disabled"
    assert row["error"] == "switched off by --no-plugin curate-good"


def test_a_plugins_file_is_listed_by_its_path(tmp_path: Path, curate) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from curate.stage import RecordStage\nclass Shout(RecordStage): ...\n")

    row = rows(curate("--plugins-file", str(file), "plugins", "--json").out)[str(file)]

    assert row["provides"]["stages"] == ["shout"]
    assert row["version"] is None


def test_help_shows_the_verbs_of_plugins_and_obeys_options_before_it(site: Site, curate) -> None:
    code = """
        from curate.plugin import CommandRef, hookimpl
        @hookimpl
        def curate_commands():
            return [CommandRef("denoise", "nowhere:denoise", "Remove noise")]
    """
    site.install("curate-denoise", code)

    assert "denoise Remove noise" in " ".join(curate("--help").out.split())
    assert "Remove noise" not in curate("--no-plugin", "curate-denoise", "--help").out
