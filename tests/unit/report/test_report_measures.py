"""The measures in the report: their panels with limits, examples at the quantiles, and the scatter of two of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.report.columns import columns_of
from curate.report.measures import MEASURES, MeasureSurvey
from curate.report.page import render
from curate.stages import AudioProfile, QualityFilter, ReadRecords


def measured_run(folder: Path) -> Path:
    """Return the directory of a run over twelve recordings, of which a filter on their noise leaves out some."""
    records: list[dict[str, Any]] = []
    time = np.arange(32_000) / 16_000
    for number in range(12):
        voice = 0.2 * np.sin(2 * np.pi * (110 + 9 * number) * time) * (np.sin(2 * np.pi * 2 * time) > 0)
        noise = 0.2 * 10 ** (-number / 6) * np.random.default_rng(number).standard_normal(len(time))
        soundfile.write(folder / f"{number}.flac", voice + noise, 16_000)
        records.append({"audio_filepath": str(folder / f"{number}.flac"), "text": f"number {number}"})
    stages = [ReadRecords(records), AudioProfile(), QualityFilter("snr_db >= 5 and clipped_ratio < 0.5")]
    Pipeline("measured", stages).run(run_dir=folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(measured_run(tmp_path_factory.mktemp("measures")))


def test_every_measure_has_a_panel_with_the_limits_of_the_filters(page: str) -> None:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    charts = json.loads(data)["charts"]
    drawn = [chart for chart in charts if chart["kind"] == "histogram"]
    noise = next(chart for chart in drawn if chart["unit"] == "dB")
    assert noise["thresholds"] == [{"operator": ">=", "value": 5.0}]
    titles = re.findall(r"<h3>([^<]*)</h3>", page)
    for column in ("snr_db", "snr_wada_db", "bandwidth_hz", "pitch_hz", "clipped_ratio", "peak_dbfs"):
        assert f"{MEASURES[column][0]} ({column})" in " ".join(titles) or f"({column})" in page
    assert sum(chart["kept"] != [] for chart in drawn) == len(drawn)
    (scatter,) = [chart for chart in charts if chart["kind"] == "scatter"]
    assert (scatter["x"]["unit"], scatter["thresholds"][0]["axis"]) == ("dB", "x")
    assert len(scatter["kept"]) + len(scatter["filtered"]) == 12
    assert all(x >= 5 for x, _ in scatter["kept"])
    assert 'id="measures"' in page


def test_examples_lie_at_the_quantiles_and_can_be_played(page: str) -> None:
    section = page.partition('id="quantiles"')[2].partition('id="speed"')[0]
    assert section.count("at 5%") >= 3
    assert section.count('class="card sample"') >= 9
    assert "data:audio" in section or "<audio" in section or "data-clip" in section


def test_a_survey_keeps_a_bounded_number_of_records_and_the_quantiles_are_theirs() -> None:
    survey = MeasureSurvey(columns_of({"filter": {"expression": "bandwidth_hz >= 4000"}}))
    for number in range(5000):
        record = {"_id": str(number), "snr_db": number / 100, "bandwidth_hz": 8000.0, "pitch_hz": None}
        survey.see("kept", record, record)
    assert list(survey.found()) == ["bandwidth_hz", "snr_db"]
    snr = survey.found()["snr_db"]
    assert (snr.seen, len(snr.examples)) == (5000, 48)
    low, middle, high = survey.examples()["snr_db"]
    assert (low.share, middle.share, high.share) == (0.05, 0.5, 0.95)
    assert low.value < 12 < middle.value < 38 < high.value
    assert survey.scatter() is None  # one of the two does not vary
    assert MeasureSurvey(columns_of({})).examples() == {}
