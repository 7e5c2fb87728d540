"""The report of a run: what is on the page, for runs in every state."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from curate.errors import InfrastructureError, RunDirectoryError
from curate.plugin import PluginHost
from curate.report import BarChart, Panel, Table, write_report
from curate.report.page import render
from tests.runs import hostile_run, small_run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("report"))


@pytest.fixture
def copy(run_dir: Path, tmp_path: Path) -> Path:
    """A run directory that may be spoilt."""
    return Path(shutil.copytree(run_dir, tmp_path / "copy"))


def charts(page: str) -> list[dict[str, Any]]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(data)["charts"]


def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    """Return the elements of a page with their attributes, as a browser's parser finds them."""
    found: list[tuple[str, dict[str, str | None]]] = []

    class Collector(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Collector().feed(page)
    return found


def balance(page: str) -> dict[str, tuple[int, int]]:
    terms = re.findall(r'<div class="term (\w+)" data-records="(\d+)" data-ms="(\d+)">', page)
    return {kind: (int(records), int(ms)) for kind, records, ms in terms}


def test_the_balance_adds_up_in_records_and_in_audio(run_dir: Path) -> None:
    terms = balance(render(run_dir))
    assert {kind: records for kind, (records, _) in terms.items()} == {
        "in": 9,
        "kept": 4,
        "filtered": 3,
        "quarantined": 2,
    }
    assert terms["in"][1] == sum(terms[kind][1] for kind in ("kept", "filtered", "quarantined")) == 13_500


def test_distributions_have_every_record_and_the_filters_thresholds(run_dir: Path) -> None:
    histograms = {chart["unit"]: chart for chart in charts(render(run_dir)) if chart["kind"] == "histogram"}
    duration = histograms["seconds"]
    assert [sum(duration[fate]) for fate in ("kept", "filtered", "quarantined")] == [4, 3, 2]
    assert duration["thresholds"] == [{"operator": "<=", "value": 20.0}]
    wer = histograms[""]
    assert [sum(wer[fate]) for fate in ("kept", "filtered", "quarantined")] == [4, 3, 0]
    assert wer["thresholds"] == [{"operator": "<=", "value": 0.5}]
    assert sum(histograms["words per second"]["kept"]) == 4


def test_the_worst_error_rates_come_first_with_their_words_aligned(run_dir: Path) -> None:
    page = render(run_dir)
    worst = re.findall(r'<span class="rate">([\d.]+)%</span>', page)
    assert worst == ["150.0", "100.0", "66.7", "25.0", "25.0"]
    assert '<span class="substitute"><b>three</b><i>tree</i></span>' in page
    assert '<span class="delete"><b>one</b><i></i></span>' in page
    assert '<span class="insert">' in page


def test_every_record_with_audio_has_a_player_and_the_others_a_reason(run_dir: Path) -> None:
    page = render(run_dir)
    assert page.count('src="data:audio/mpeg;base64,') == 9 + 5  # as samples, and as the worst
    shutil.copytree(run_dir, run_dir.parent / "moved", dirs_exist_ok=True)
    run = json.loads((run_dir.parent / "moved" / "run.json").read_text())
    run["audio_roots"] = ["/nowhere"]
    (run_dir.parent / "moved" / "run.json").write_text(json.dumps(run))
    page = render(run_dir.parent / "moved")
    assert "data:audio" not in page
    assert "outside_root" in page


def test_clips_stop_at_the_budget(run_dir: Path) -> None:
    page = render(run_dir, budget_bytes=1)
    assert page.count("data:audio/mpeg") == 1 + 1  # the first one is also among the samples
    assert "there is no room for this clip" in page


def test_failures_show_their_meaning_and_an_example(run_dir: Path) -> None:
    page = render(run_dir)
    assert "a column holds a value of the wrong type or range" in page
    assert "refused: broken" in page


def test_the_page_opens_nothing_but_itself(run_dir: Path) -> None:
    page = render(run_dir)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    for tag, attributes in elements(page):
        for name in ("src", "href", "srcset", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, name)


def test_what_stages_have_measured_of_their_batches_is_shown(copy: Path) -> None:
    page = render(copy)
    assert ": batches</bdi></h3>" not in page
    summary = json.loads((copy / "summary.json").read_text())
    measured = {
        "batches": 4,
        "total_samples": 50,
        "audio_s": 90.0,
        "padded_s": 120.0,
        "waste": 1 / 3,
        "model_s": 3.0,
        "load_wait_s": 1.0,
        "rtfx": 22.5,
        "history": [],
        "shapes": {"16x5": 3, "2x20": 1, "torn": 1},
    }
    summary["by_stage"]["word_error_rate"]["performance"] = measured
    (copy / "summary.json").write_text(json.dumps(summary))
    page = render(copy)
    assert "word_error_rate: batches</bdi></h3>" in page
    assert "audio 75.0%, padding 25.0%" in page
    assert "at work 75.0%, waiting 25.0%" in page
    assert '<td class="key">Records in a batch, on average</td><td class="number">12.5</td>' in page
    (shapes,) = [chart for chart in charts(page) if chart["kind"] == "shapes"]
    assert shapes["points"] == [[5.0, 16, 3], [20.0, 2, 1]]


def test_a_run_that_was_killed_shows_what_there_is_and_says_so(copy: Path) -> None:
    (copy / "summary.json").unlink()
    events = (copy / "metrics" / "events.jsonl").read_text().splitlines()
    (copy / "metrics" / "events.jsonl").write_text("\n".join([*events[:-1], '{"torn": ']))
    (lock,) = copy.glob("driver-*.json")
    lock.write_text(json.dumps({**json.loads(lock.read_bytes()), "released": False, "process_started": "another"}))
    (copy / "state.json").unlink()
    page = render(copy)
    assert 'class="notice crashed"' in page
    assert "its driver was killed" in page
    assert balance(page)["kept"][0] == 4


def test_a_run_that_is_going_says_so(copy: Path) -> None:
    (copy / "summary.json").unlink()
    holding = f"""
from pathlib import Path
from curate.engine.durability.lock import DriverLock
with DriverLock(Path({str(copy)!r})):
    print("held", flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None and driver.stdin is not None
        assert driver.stdout.readline() == b"held\n"
        page = render(copy)
        driver.stdin.write(b"\n")
    assert 'class="notice running"' in page
    assert f"process {driver.pid} on" in page


@pytest.mark.parametrize(
    ("interrupted", "state"),
    [(True, "interrupted"), (False, "failed")],
)
def test_a_run_that_stopped_says_why(copy: Path, interrupted: bool, state: str) -> None:
    (copy / "summary.json").unlink()
    described = json.loads((copy / "state.json").read_bytes())
    (copy / "state.json").write_text(json.dumps({**described, "status": state, "error": "OSError: disk <full>"}))
    page = render(copy)
    assert f'class="notice {state}"' in page
    assert ("disk &lt;full&gt;" in page) == (not interrupted)


def test_what_is_not_finished_is_still_on_the_way(copy: Path) -> None:
    (copy / "summary.json").unlink()
    run = json.loads((copy / "run.json").read_text())
    run["layout"].append(["later"])
    (copy / "run.json").write_text(json.dumps(run))
    terms = balance(render(copy))
    assert terms["waiting"][0] == 4
    assert terms["in"] == tuple(map(sum, zip(*(terms[kind] for kind in terms if kind != "in"), strict=True)))


def test_a_run_without_metrics_has_no_curve_and_says_so(copy: Path) -> None:
    shutil.rmtree(copy / "metrics")
    page = render(copy)
    assert "holds no metrics, so there is no curve" in page
    assert not any(chart["kind"] == "throughput" for chart in charts(page))


def test_a_run_that_has_only_begun_has_a_report(copy: Path) -> None:
    for path in (
        path for name in ("commits", "copies", "data", "filtered", "quarantine") for path in copy.glob(f"{name}/*")
    ):
        path.unlink()
    (copy / "summary.json").unlink()
    assert balance(render(copy)) == dict.fromkeys(("in", "kept", "filtered", "quarantined"), (0, 0))


def test_a_damaged_shard_is_named_and_the_rest_shown(copy: Path) -> None:
    (shard,) = (copy / "data").iterdir()
    shard.write_bytes(shard.read_bytes()[:-20])
    page = render(copy)
    assert f"{shard.name} is damaged" in page
    assert balance(page)["kept"][0] == 4
    (commit,) = (copy / "commits").glob("p0-*.json")
    commit.write_text("{")
    with pytest.raises(InfrastructureError, match=f"{commit.name} is damaged"):
        render(copy)


def test_a_run_of_another_version_is_refused_with_both_versions(copy: Path) -> None:
    run = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**run, "format": 99, "curate": "9.9"}))
    with pytest.raises(RunDirectoryError, match=r"was written by curate 9\.9 in format 99"):
        write_report(copy)


def test_a_folder_without_a_run_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"holds no run.*--run-dir"):
        write_report(tmp_path)


def test_looking_at_a_run_changes_nothing_in_it(copy: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in copy.rglob("*") if path.is_file()}

    before = content()
    written = write_report(copy, copy.parent / "elsewhere.html")
    assert content() == before
    assert written.read_text().startswith("<!doctype html>")


def test_a_hostile_manifest_shows_as_text(tmp_path: Path) -> None:
    page = render(hostile_run(tmp_path))
    assert len(page) < 5_000_000  # of which a megabyte of text is none
    tags = {tag for tag, _ in elements(page)}
    assert tags.isdisjoint({"img", "iframe", "object", "embed", "form", "base"})
    assert sum(tag == "script" for tag, _ in elements(page)) == 3  # the data, the charts, ours
    assert not any(name.startswith("on") for _, attributes in elements(page) for name in attributes)
    assert "\u202e" not in page and "\x00" not in page and "\x1b" not in page
    assert "\u27e8U+202E\u27e9" in page and "\u2400" in page
    assert "more characters)" in page


PANELS = """
from curate.plugin import PanelRef, hookimpl
from curate.report import BarChart, LineChart, Panel, Table


@hookimpl
def curate_report_panels():
    return [
        PanelRef("texts", f"{__name__}:texts", "Count letters"),
        PanelRef("fails", f"{__name__}:fails", "Fail"),
        PanelRef("twice", f"{__name__}:twice", "Claim another anchor"),
        PanelRef("nothing", f"{__name__}:nothing", "Show nothing"),
    ]


def texts(run):
    lengths = [len(record["text"]) for record in run.records()]
    yield Panel("Letters <b>", "letters", BarChart(["a", "b"], {"one": [1, float("nan")]}, unit="letters"),
                Table(["record", "letters"], [(str(place), length) for place, length in enumerate(lengths)]))
    yield Panel("Over time", "over-time", LineChart({"x": [(0, 1), (2, 3)]}), note="a note", section="speed")


def fails(run):
    raise RuntimeError("no such column")


def twice(run):
    return Panel("Again", "balance")


def nothing(run):
    return None
"""


def test_panels_of_plugins_are_added_and_one_that_fails_is_a_problem(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "panels.py").write_text(PANELS)
    page = render(run_dir, host=PluginHost(plugin_files=[tmp_path / "panels.py"], environment={"CURATE_PLUGINS": ""}))
    more = page[page.index('<section id="more">') : page.index('<section id="setup">')]
    assert '<a href="#more">More</a>' in page
    assert '<div class="card" id="letters"><h3><bdi>Letters &lt;b&gt;</bdi></h3>' in more
    assert re.findall(r"<bdi>(\d+)</bdi></td><td class=\"number\">(\d+)</td>", more)[0] == ("0", "18")
    speed = page[page.index('<section id="speed">') : page.index('<section id="failures">')]
    assert 'id="over-time"' in speed
    (bars,) = [chart for chart in charts(page) if chart["kind"] == "bars"]
    assert bars["series"] == [{"name": "one", "values": [1.0, None]}]
    (lines,) = [chart for chart in charts(page) if chart["kind"] == "lines"]
    assert lines["series"] == [{"name": "x", "points": [[0.0, 1.0], [2.0, 3.0]]}]
    assert "fails&#39;" in page and "RuntimeError: no such column" in page
    assert "another &#39;balance&#39;; choose another anchor" in page


def test_a_page_without_plugins_has_no_section_for_them(run_dir: Path) -> None:
    page = render(run_dir, host=PluginHost(environment={"CURATE_PLUGINS": ""}))
    assert 'id="more"' not in page


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Panel("A", "Not an anchor"), "lower-case letters"),
        (lambda: BarChart(["a"], {"one": [1, 2]}), "2 numbers for 1 categories"),
        (lambda: Table(["a", "b"], [(1,)]), "1 cells for 2 columns"),
    ],
)
def test_a_panel_that_does_not_fit_together_is_refused_where_it_is_made(make: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        make()
