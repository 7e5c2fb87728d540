"""The page in a real browser and its server: heard, filtered, labelled, and closed to everybody else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("duckdb", reason="needs duckdb: make .venv/.dev-all")
pytest.importorskip("starlette", reason="needs starlette: make .venv/.dev-all")
pytest.importorskip("uvicorn", reason="needs uvicorn: make .venv/.dev-all")

import soundfile

from curate.engine import RunReader
from tests.explored import HOSTILE, Server, explored, run_corpus, run_twice


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("explored")
    run = run_corpus(folder / "corpus")
    with explored(run, folder / "cache") as server:
        yield server


@pytest.fixture
def page(browser: Any, served: Server) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, permissions=["clipboard-write"])
    opened = context.new_page()
    complaints: list[str] = []

    def refuse(dialog: Any) -> None:
        complaints.append(dialog.message)
        dialog.dismiss()

    def note(asked: Any) -> None:
        if not asked.url.startswith((f"http://127.0.0.1:{served.port}/", "blob:", "data:")):
            complaints.append(asked.url)

    def complain(error: Any) -> None:
        complaints.append(str(error))

    opened.on("pageerror", complain)
    opened.on("dialog", refuse)
    opened.on("request", note)
    opened.on("response", lambda answer: complaints.append(answer.url) if answer.status == 404 else None)
    opened.goto(served.address)
    opened.wait_for_selector(".line:not(.wait)")
    yield opened
    assert complaints == []
    context.close()


def attribute(page: Any, name: str, value: str = "") -> None:
    """Wait until the page has noted something on its body."""
    page.wait_for_selector(f"body[data-{name}{f'={json.dumps(value)}' if value else ''}]", timeout=30_000)


def test_requests_without_token_or_from_elsewhere_get_403(served: Server) -> None:
    for path in ("/", "/api/state", "/assets/explorer.js", "/audio/1"):
        assert served.ask(path, cookie="")[0] == 403
        assert served.ask(path, cookie=f"curate-{served.port}=wrong")[0] == 403
        assert served.ask(path, host=f"evil.example:{served.port}")[0] == 403
        assert served.ask(path)[0] == 200
    assert served.ask("/api/label", {"row": 1, "verdict": "accept"}, cookie="")[0] == 403
    status, _, headers = served.ask(f"/?token={served.token}", cookie="")
    assert status == 200
    assert "HttpOnly; SameSite=Strict" in headers["set-cookie"]
    assert served.ask("/?token=wrong")[0] == 403
    for path in ("/assets/../server.py", "/assets/%2e%2e%2fserver.py", "/etc/passwd", "/audio/../../etc/passwd"):
        assert served.ask(path)[0] == 404
    # a form of another site can send no JSON
    assert served.ask("/api/label", {"row": 1}, **{"content-type": "text/plain"})[0] == 400


def test_audio_is_of_rows_below_the_roots_and_comes_in_ranges(served: Server, tmp_path: Path) -> None:
    row = next(row for row in served.answer("/api/table", {})["rows"] if row["outcome"] == "kept")
    status, content, headers = served.ask(f"/audio/{row['row']}")
    samples, rate_hz = soundfile.read(io.BytesIO(content))
    assert (status, rate_hz, headers["accept-ranges"]) == (200, 8000, "bytes")
    assert len(samples) / rate_hz == pytest.approx(row["values"]["duration"], abs=1e-3)
    status, part, headers = served.ask(f"/audio/{row['row']}", range="bytes=100-199")
    assert (status, part, headers["content-range"]) == (206, content[100:200], f"bytes 100-199/{len(content)}")
    assert served.ask(f"/audio/{row['row']}", range="bytes=999999999-")[0] == 416
    assert served.ask("/audio/999999")[0] == 404
    outside = tmp_path / "manifest" / "rows.jsonl"
    outside.parent.mkdir()
    (tmp_path / "secret.wav").write_bytes(content)
    outside.write_text(json.dumps({"audio_filepath": "../secret.wav", "text": "x"}) + "\n")
    with explored(outside, tmp_path / "cache") as server:
        assert server.ask("/audio/0")[0] == 403


def test_a_record_is_played_with_keys_and_shows_its_way_and_differences(page: Any, served: Server) -> None:
    page.keyboard.press("j")
    attribute(page, "heard", "0")
    attribute(page, "playing", "0")
    page.keyboard.press("j")
    attribute(page, "playing", "1")
    assert page.locator(".way li").all_inner_texts()[:2] == ["read_manifest", "word_error_rate"]
    wrong = next(row for row in served.answer("/api/table", {})["rows"] if row["values"].get("wer"))
    page.locator("#search").fill(wrong["values"]["text"])
    page.locator(".line", has_text=wrong["values"]["text"]).first.click()
    page.wait_for_selector(".words .substitute")
    assert page.locator(".words .substitute b").all_inner_texts() == ["two", "three"]


def test_hostile_text_is_shown_and_runs_nothing(page: Any) -> None:
    page.locator("#search").fill("onerror")
    page.wait_for_selector('#total:has-text("1 record")')
    page.locator(".line").first.click()
    page.wait_for_selector("#record[data-row]")
    assert page.locator(".words b").all_inner_texts() == HOSTILE.split()
    assert page.locator("img").count() == 0
    assert page.evaluate("document.body.dataset.broken") is None


def test_sliders_count_at_once_and_show_records_on_both_sides(page: Any, served: Server) -> None:
    attribute(page, "threshold")
    slider = page.locator('.slider[data-column="duration"] input[data-end="high"]')
    slider.wait_for()
    slider.focus()
    for _ in range(5):
        slider.press("PageDown")
    expression = page.locator("#expression").input_value()
    assert expression.startswith("wer <= 0.3 and duration <= ")
    assert expression != "wer <= 0.3 and duration <= 3"
    counted = served.answer("/api/threshold", {"expression": expression, "filter": "quality_filter"})
    attribute(page, "threshold", f"{counted['kept']} {expression}")
    assert 0 < counted["kept"] < counted["kept_now"]
    slider.blur()
    page.wait_for_selector(".near")
    assert page.locator("#borderline h3").count() == 2
    page.locator('#sides button[data-side="kept"]').click()
    page.wait_for_selector(f'#total:has-text("{counted["kept"]} records")')


def test_labels_are_there_after_a_reload_and_in_the_file(page: Any, served: Server) -> None:
    page.locator(".line").nth(3).click()
    page.wait_for_selector('#record[data-row="3"]')
    page.locator("#corrected").fill("corrected text")
    page.locator("#note").fill("music")
    page.locator("#note").press("Escape")
    page.keyboard.press("r")
    attribute(page, "labelled", "3 reject")
    page.keyboard.press("j")
    page.wait_for_selector('#record[data-row="4"]')
    page.keyboard.press("a")
    attribute(page, "labelled", "4 accept")
    page.reload()
    page.wait_for_selector(".line:not(.wait)")
    assert page.locator(".line").nth(3).locator(".mark.reject").count() == 1
    page.locator(".line").nth(3).click()
    page.wait_for_selector('#record[data-row="3"]')
    assert page.locator("#corrected").input_value() == "corrected text"
    lines = [json.loads(line) for line in Path(served.answer("/api/state")["annotations"]).read_text().splitlines()]
    rows = served.answer("/api/table", {})["rows"]
    assert [(line["id"], line["verdict"]) for line in lines[-2:]] == [
        (rows[3]["id"], "reject"),
        (rows[4]["id"], "accept"),
    ]
    assert lines[-2]["corrected_text"] == "corrected text"


def test_lasso_chooses_the_points_inside(page: Any) -> None:
    page.wait_for_selector('#scatter-note:has-text("points")')
    box = page.locator("#scatter").bounding_box()
    page.locator("#scatter").scroll_into_view_if_needed()
    box = page.locator("#scatter").bounding_box()
    corners = [(0.12, 0.02), (0.6, 0.02), (0.6, 0.93), (0.12, 0.93)]
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*at[0])
    page.mouse.down()
    for x, y in at[1:]:
        page.mouse.move(x, y, steps=5)
    page.mouse.up()
    page.wait_for_selector("#clear-lasso:visible")
    page.wait_for_selector('#total:not(:has-text("40 records"))')  # those whose audio is missing have no rate
    page.locator("#clear-lasso").click()
    page.wait_for_selector('#total:has-text("40 records")')


def test_expression_with_a_column_that_no_record_has_is_refused(page: Any) -> None:
    page.locator("#expression").fill("wre <= 0.3")
    page.wait_for_selector("#expression-error:has-text(\"no record has the column 'wre': did you mean 'wer'?\")")
    assert page.locator("#fork").is_hidden()
    page.locator("#expression").fill("wer <= 0.3")
    page.wait_for_selector("#expression-error", state="hidden")
    page.wait_for_selector("#fork:visible")


def test_spectrogram_is_filled_to_its_top(page: Any) -> None:
    page.locator(".line").nth(3).click()
    page.wait_for_selector("#spectrogram canvas")
    page.wait_for_function(f"({SPECTROGRAM})() !== null")
    assert page.evaluate(SPECTROGRAM) < 200  # the noise floor is dark, and what is not drawn is white


SPECTROGRAM = """() => {
  const canvas = document.querySelector('#spectrogram canvas');
  if (!canvas || !canvas.width || !canvas.height) return null;
  const pixels = canvas.getContext('2d').getImageData(0, 2, canvas.width, 1).data;
  let light = 0;
  for (let at = 0; at < pixels.length; at += 4) light += pixels[at];
  return pixels.some((value) => value > 0) ? light / canvas.width : null;
}"""


def test_button_forks_the_run_with_the_expression(page: Any, served: Server) -> None:
    page.locator("#expression").fill("wer <= 0.3 and duration <= 2")
    page.wait_for_selector('#command:has-text("duration <= 2")')
    counted = served.answer(
        "/api/threshold", {"expression": "wer <= 0.3 and duration <= 2", "filter": "quality_filter"}
    )
    page.locator("#run").click()
    attribute(page, "forked", "0")
    forked = Path(page.locator("#fork-output").inner_text().rpartition("curate explore ")[2].strip())
    summary = RunReader(forked).summary
    assert summary is not None
    assert summary["kept"] == counted["kept"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("compared")
    first, second = run_twice(folder / "corpus")
    with explored(first, folder / "cache", str(second)) as server:
        yield server


def test_two_runs_are_compared_record_by_record(browser: Any, compared: Server) -> None:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.goto(compared.comparison)
    page.wait_for_selector("body[data-pairs]", timeout=30_000)
    state = compared.answer("/api/compare", {})
    lost = next(each["records"] for each in state["outcomes"] if (each["a"], each["b"]) == ("kept", "filtered"))
    assert lost > 5
    assert {each["name"]: each["changed"] for each in state["columns"]}["pred_text"] == 2
    assert page.locator("#settings").inner_text().count("duration <=") == 2
    moved = sum(each["records"] for each in state["outcomes"] if each["a"] != each["b"])
    assert page.locator("#total").inner_text() == f"{moved} records"
    page.locator('#outcomes-table button[data-cell="kept filtered"]').click()
    attribute(page, "pairs", str(lost))
    first = page.locator(".pair").first
    assert first.locator(".pill").all_inner_texts() == ["kept", "filtered"]
    assert "duration <= 2" in first.inner_text()
    page.locator('#columns button[data-column="pred_text"]').click()
    attribute(page, "pairs", "2")
    assert page.locator("#total").inner_text() == "2 records"
    assert page.locator(".pair .words .substitute b").all_inner_texts() == ["one", "one"]
    assert page.locator(".pair .words .substitute i").all_inner_texts() == ["won", "won"]
    assert "wer" in page.locator(".pair .changes").first.inner_text()
    page.locator(".pair .play").first.click()
    attribute(page, "playing")
    page.locator("#clear").click()
    attribute(page, "pairs", str(moved))
    page.locator("#search").fill("onerror")
    attribute(page, "pairs", "1")
    assert page.locator("img").count() == 0
    page.get_by_role("link", name="All records of A").click()
    page.wait_for_selector(".line:not(.wait)")
    page.locator("#compare").click()
    page.wait_for_selector("body[data-pairs]")
    assert complaints == []
    context.close()


def test_comparison_is_closed_to_others_and_names_what_is_not_there(compared: Server, served: Server) -> None:
    for path in ("/compare", "/audio-b/1", "/api/compare"):
        assert compared.ask(path, {}, cookie="")[0] == 403
        assert compared.ask(path, {}, host=f"evil.example:{compared.port}")[0] == 403
    assert compared.ask("/audio-b/999999")[0] == 404
    assert compared.ask("/api/compare/rows", {"column": "no such"})[0] == 400
    assert compared.ask("/api/compare/rows", {"a": "x' OR 1=1"})[0] == 400
    status, content, _ = compared.ask("/audio-b/0")
    assert status == 200 and content[:4] == b"RIFF"
    assert served.ask("/compare")[0] == 404
    assert served.ask("/api/compare", {})[0] == 404


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 390)])
def test_comparison_fits_the_window(browser: Any, compared: Server, scheme: str, width: int) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    page = context.new_page()
    page.goto(compared.comparison)
    page.wait_for_selector("body[data-pairs]", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        "(width) => [...document.querySelectorAll('main *')].filter((one) => one.getClientRects().length && "
        "!one.closest('.panels > *') && one.getBoundingClientRect().right > width + 1).length",
        width,
    )
    assert outside == 0
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_wider_than_the_window(browser: Any, served: Server, scheme: str, width: int) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    page = context.new_page()
    page.goto(served.address)
    page.wait_for_selector(".line:not(.wait)")
    for view in ("side", "record", "table") if width < 760 else ("table",):
        if width < 760:
            page.locator(f'.views button[data-view="{view}"]').click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == scheme
    context.close()
