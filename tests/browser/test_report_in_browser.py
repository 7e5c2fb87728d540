"""The report in a real browser: drawn, quiet, offline, playable, and harmless whatever the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.report import write_report
from tests.runs import hostile_run, small_run, varied_run

SIZES = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]

DRAWN = """() => [...document.querySelectorAll('[data-chart] canvas')].map((canvas) => {
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const colours = new Set();
  for (let place = 0; place < pixels.length; place += 40)
    if (pixels[place + 3]) colours.add(`${pixels[place]},${pixels[place + 1]},${pixels[place + 2]}`);
  return colours.size;
})"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = small_run(tmp_path_factory.mktemp("browser"))
    summary = json.loads((run_dir / "summary.json").read_text())
    summary["by_stage"]["word_error_rate"]["performance"] = {  # as an ASR stage measures it
        "batches": 4,
        "audio_s": 90.0,
        "padded_s": 120.0,
        "shapes": {"16x5": 30, "2x20": 4, "8x10": 11},
    }
    (run_dir / "summary.json").write_text(json.dumps(summary))
    return write_report(run_dir)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(varied_run(tmp_path_factory.mktemp("varied")))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(hostile_run(tmp_path_factory.mktemp("hostile")))


@pytest.mark.parametrize(("scheme", "width"), SIZES)
def test_it_opens_without_errors_or_requests_and_fits_the_screen(
    opened: Any, report: Path, scheme: str, width: int
) -> None:
    seen = opened(report, scheme=scheme, width=width)
    assert (seen.errors, seen.requests) == ([], [])
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width


OVERFLOWING = """() => [...document.querySelectorAll('.card *')].filter((one) => {
  if (one.closest('[hidden], canvas, pre, .wave, svg') || !one.getClientRects().length) return false;
  const card = one.closest('.card').getBoundingClientRect(), own = one.getBoundingClientRect();
  return own.right > card.right + 1 || own.left < card.left - 1;
}).map((one) => `${one.tagName}.${one.className} of #${one.closest('[id]').id}`)"""

BLANK_PX = """() => [...document.querySelectorAll('.grid')].flatMap((grid) => {
  const rows = new Map();
  for (const card of grid.children) {
    const own = card.getBoundingClientRect(), row = Math.round(own.top);
    rows.set(row, Math.max(rows.get(row) || 0, own.right));
  }
  return [...rows.values()].map((right) => grid.getBoundingClientRect().right - right);
})"""


OVERLAPS = """() => [...document.querySelectorAll('[data-chart]')].flatMap((place) => {
  const texts = echarts.getInstanceByDom(place).getZr().storage.getDisplayList()
    .filter((one) => one.type === 'tspan' && one.style.text.trim() && !one.invisible)
    .map((one) => {
      const rect = one.getBoundingRect().clone(), moved = one.getComputedTransform();
      if (moved) rect.applyTransform(moved);
      return {text: one.style.text, x: rect.x, y: rect.y, right: rect.x + rect.width, bottom: rect.y + rect.height};
    });
  return texts.flatMap((one, at) => texts.slice(at + 1)
    .filter((other) => Math.min(one.right, other.right) - Math.max(one.x, other.x) > 1
      && Math.min(one.bottom, other.bottom) - Math.max(one.y, other.y) > -2)  // the boxes are of small letters
    .map((other) => `${place.closest('[id]').id}: ${one.text} | ${other.text}`));
})"""


@pytest.mark.parametrize("width", [1400, 390])
def test_no_label_of_a_chart_sits_on_another(opened: Any, varied: Path, width: int) -> None:
    page = opened(varied, width=width).page
    assert page.evaluate("document.querySelectorAll('[data-chart]').length") >= 6
    assert page.evaluate(OVERLAPS) == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("light", 1000), ("dark", 390)])
def test_no_element_is_wider_than_its_box_and_no_row_has_a_blank(
    opened: Any, varied: Path, scheme: str, width: int
) -> None:
    page = opened(varied, scheme=scheme, width=width).page
    for details in page.locator("details").all():
        details.locator("summary").click()
    assert page.evaluate(OVERFLOWING) == []
    assert max(page.evaluate(BLANK_PX)) <= 1
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_sections_come_in_the_order_of_decisions_and_the_end_has_the_commands(opened: Any, varied: Path) -> None:
    page = opened(varied).page
    assert page.locator("main section").evaluate_all("all => all.map((one) => one.id)") == [
        "balance",
        "errors",
        "listen",
        "distributions",
        "speed",
        "failures",
        "setup",
        "next",
    ]
    links = page.locator("nav a").evaluate_all("all => all.map((one) => one.hash.slice(1))")
    assert links == ["balance", "errors", "listen", "distributions", "speed", "failures", "setup"]
    assert f"curate explore {varied.parent}" in page.locator("#next").inner_text()


def test_tabs_count_the_records_that_they_show_or_say_how_many_of_them(opened: Any, varied: Path) -> None:
    page = opened(varied).page
    for fate in ("Kept", "Filtered", "Quarantined"):
        tab = page.get_by_role("tab", name=fate)
        tab.click()
        panel = page.locator(f"#samples-{fate.lower()}")
        counted, shown = int(tab.inner_text().split()[-1]), panel.locator(".sample").count()
        assert 0 < shown <= counted
        assert (panel.locator(f'.note:has-text("{shown} of {counted} records")').count() == 1) == (shown < counted)


def test_figures_of_reasons_and_of_groups_are_seen_on_a_phone(opened: Any, varied: Path) -> None:
    page = opened(varied, width=390).page
    for table in ("#reasons", "#by-dataset", "#by-lang", "#by-speaker"):
        cells = page.locator(f"{table} td.number")
        assert cells.count() >= 4
        for box in (cell.bounding_box() for cell in cells.all()):
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        assert "Records" in cells.first.evaluate("(cell) => getComputedStyle(cell, '::before').content")
    assert page.locator("#by-speaker tbody tr").count() == 16
    assert page.locator("#by-speaker tbody tr").last.inner_text().startswith("7 others")


def test_ids_on_the_page_are_short_and_different(opened: Any, varied: Path) -> None:
    ids = (
        opened(varied)
        .page.locator(".samples .id")
        .evaluate_all("all => all.map((one) => [one.textContent, one.title])")
    )
    assert len({short for short, _ in ids}) == len({whole for _, whole in ids}) > 20
    assert all(len(short) <= len(whole) for short, whole in ids)


def test_loading_is_named_in_the_throughput(opened: Any, varied: Path) -> None:
    page = opened(varied).page
    (chart,) = [
        chart
        for chart in page.evaluate("JSON.parse(document.getElementById('data').textContent).charts")
        if chart["kind"] == "throughput"
    ]
    assert chart["loads"] == [{"from": 0, "to": 40}]
    assert "40 s of it loading models" in page.locator(".figure").last.inner_text()
    rate = page.locator('.figure:has-text("Times real time") .value').inner_text()
    assert float(rate) == pytest.approx(90 / (108 - 40), abs=0.01)


@pytest.mark.parametrize(("scheme", "width"), SIZES)
def test_every_chart_is_drawn(opened: Any, report: Path, scheme: str, width: int) -> None:
    page = opened(report, scheme=scheme, width=width).page
    places = page.locator("[data-chart]").count()
    assert places >= 5
    colours = page.evaluate(DRAWN)
    assert len(colours) == places
    assert all(count >= 3 for count in colours)


def test_the_funnel_adds_up_on_the_screen(opened: Any, report: Path) -> None:
    page = opened(report).page
    shown = {
        kind: int(page.locator(f".term.{kind} b").inner_text().replace(",", ""))
        for kind in ("in", "kept", "filtered", "quarantined")
    }
    summary = json.loads((report.parent / "summary.json").read_text())
    assert shown["in"] == summary["records_in"] == shown["kept"] + shown["filtered"] + shown["quarantined"]
    assert [shown["kept"], shown["filtered"]] == [summary["kept"], summary["filtered"]]


def test_audio_plays(opened: Any, report: Path) -> None:
    page = opened(report).page
    players = page.locator("#samples-kept .player")
    assert players.count() == 4
    button = players.first.locator("button")
    assert button.get_attribute("aria-label") == "play"
    page.evaluate(
        """() => new Promise((resolve) => {
          for (const audio of document.querySelectorAll('audio'))
            audio.addEventListener('timeupdate', () => audio.currentTime > 0.05 && resolve());
          document.querySelector('#samples-kept .player button').click();
        })"""
    )
    assert page.evaluate("[...document.querySelectorAll('audio')].every((audio) => audio.error === null)")


def test_every_clip_can_be_decoded_to_its_length(opened: Any, report: Path) -> None:
    lengths = opened(report).page.evaluate(
        """() => Promise.all([...document.querySelectorAll('audio')].map((audio) => new Promise((resolve, reject) => {
          audio.preload = 'metadata';
          audio.onloadedmetadata = () => resolve([Number(audio.dataset.length), audio.duration]);
          audio.onerror = () => reject(new Error('an audio element cannot be decoded'));
          audio.load();
        })))"""
    )
    assert len(lengths) == 14
    assert all(abs(told - real) < 0.2 for told, real in lengths)  # MP3 has whole frames


def test_the_switch_changes_colours_and_draws_again(opened: Any, report: Path) -> None:
    page = opened(report).page
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    page.locator("#theme").click()
    assert page.evaluate(colour) != before
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert all(count >= 3 for count in page.evaluate(DRAWN))


def test_tabs_show_one_fate_at_a_time(opened: Any, report: Path) -> None:
    page = opened(report).page
    page.get_by_role("tab", name="Quarantined").click()
    assert page.locator("#samples-quarantined").is_visible()
    assert not page.locator("#samples-kept").is_visible()
    assert page.locator("#samples-quarantined .sample").count() == 2


@pytest.mark.parametrize(("scheme", "width"), SIZES)
def test_a_hostile_manifest_runs_nothing_and_breaks_no_layout(
    opened: Any, hostile: Path, scheme: str, width: int
) -> None:
    seen = opened(hostile, scheme=scheme, width=width)
    page = seen.page
    for details in page.locator("details").all():
        details.locator("summary").click()
    for fate in ("Filtered", "Quarantined", "Kept"):
        page.get_by_role("tab", name=fate).click()
    assert page.evaluate("window.hacked") is None
    assert (seen.errors, seen.requests) == ([], [])
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("img, iframe, object, embed, svg[onload]").count() == 0
    assert page.evaluate("document.body.scrollHeight") < 60_000
    assert "<script>hostile" in page.locator("h1").inner_text()


def test_the_policy_forbids_scripts_that_get_into_the_page(opened: Any, report: Path) -> None:
    seen = opened(report)
    seen.page.evaluate(
        """() => {
          const script = document.createElement('script');
          script.textContent = 'window.hacked = 1';
          document.body.append(script);
          const picture = document.createElement('img');
          picture.src = 'http://127.0.0.1:9/x.png';
          document.body.append(picture);
        }"""
    )
    assert seen.page.evaluate("window.hacked") is None
    refused = [error for error in seen.errors if "Content Security Policy" in error]
    assert any("script-src" in error for error in refused)
    assert any("img-src" in error for error in refused)


@pytest.mark.parametrize(("scheme", "width"), SIZES)
def test_page_of_statistics_is_drawn_and_fits_the_screen(opened: Any, tmp_path: Path, scheme: str, width: int) -> None:
    pytest.importorskip("duckdb", reason="needs duckdb: pip install 'curate-speech[corpus]'")
    from curate.corpus.statistics import corpus_statistics
    from curate.report.statistics_page import write_statistics

    texts = ["one two three", "four five <b>six</b>", "seven"]
    records = [
        {"duration": 1 + n % 13, "text": texts[n % 3], "speaker": f"speaker-{n % 40}", "lang": "en"} for n in range(400)
    ]
    write_statistics(corpus_statistics(records, by=["lang", "speaker"]), Path("corpus.jsonl"), tmp_path / "page.html")
    seen = opened(tmp_path / "page.html", scheme=scheme, width=width)
    assert (seen.errors, seen.requests) == ([], [])
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    colours = seen.page.evaluate(DRAWN)
    assert len(colours) == seen.page.locator("[data-chart]").count() == 2
    assert all(count >= 3 for count in colours)
