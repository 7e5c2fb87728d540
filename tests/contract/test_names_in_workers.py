"""Names that plugins announce mean the same in the workers of every executor as in the driver."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline
from curate.cli import main
from curate.errors import PlanError
from curate.plugin import PluginHost
from curate.stages import AsrStage, ReadRecords, WordErrorRate
from curate.testing import write_tone
from tests.unit.plugin.distributions import Site

PLACES = ["local", "multiprocessing", "ray"]

EARS = """
from curate.models import AudioModel
from curate.plugin import NormaliserRef, RecogniserRef, hookimpl


class Ears(AudioModel):
    def infer(self, clips):
        return [{{"text": "{text}"}} for _ in clips]


def fold(text):
    return text.lower().replace("colour", "color")


@hookimpl
def curate_recognisers():
    return [RecogniserRef("ears", f"{{__name__}}:Ears", "answers one text")]


@hookimpl
def curate_normalisers():
    return [NormaliserRef("fold", f"{{__name__}}:fold", "American spelling")]
"""


@pytest.fixture
def records(tmp_path: Path) -> list[dict[str, Any]]:
    paths = [write_tone(tmp_path / f"{number}.wav", seconds=0.2) for number in range(3)]
    return [{"audio_filepath": str(path), "duration": 0.2, "text": "A Colour"} for path in paths]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Two installed distributions that announce the same names."""
    monkeypatch.delenv("CURATE_PLUGINS", raising=False)
    before = set(sys.modules)
    site = Site(tmp_path / "site-packages")
    monkeypatch.syspath_prepend(str(site.path))
    site.install("curate-loud", EARS.format(text="A COLOR"))
    site.install("curate-quiet", EARS.format(text="a color"))
    yield site
    for name in set(sys.modules) - before:
        if name in ("curate_loud_plugin", "curate_quiet_plugin"):
            del sys.modules[name]


def texts(place: Any, records: list[dict[str, Any]], host: PluginHost) -> list[tuple[str, float]]:
    stages = [ReadRecords(records), AsrStage("ears"), WordErrorRate(normaliser="fold")]
    result = Pipeline("p", stages).run(place, host=host)
    return [(record["pred_text"], record["wer"]) for record in result.records()]


@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_names_of_a_plugins_file_hold_in_every_worker(
    place: Any, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "ears.py").write_text(EARS.format(text="a COLOR"))
    host = PluginHost(plugin_files=[tmp_path / "ears.py"])

    assert texts(place, records, host) == [("a COLOR", 0.0)] * 3


@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_a_plugin_that_is_switched_off_is_off_in_every_worker(
    place: Any, records: list[dict[str, Any]], site: Site
) -> None:
    with pytest.raises(PlanError, match="'ears' is announced by 2 plugins"):
        texts(place, records, PluginHost())

    assert texts(place, records, PluginHost(disabled=["curate-quiet"])) == [("A COLOR", 0.0)] * 3
    assert texts(place, records, PluginHost(disabled=["curate-loud"])) == [("a color", 0.0)] * 3


def test_the_command_line_runs_names_of_a_plugins_file_in_processes(
    records: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ears.py").write_text(EARS.format(text="a COLOR"))
    Path("in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    Path("p.yaml").write_text(
        "stages:\n"
        "  - {use: read_manifest, manifest: in.jsonl}\n"
        "  - {use: asr, recogniser: ears}\n"
        "  - {use: word_error_rate, normaliser: fold}\n"
        "  - {use: merge, path: out.jsonl}\n"
    )

    assert main(["-q", "--plugins-file", "ears.py", "run", "p.yaml", "--executor", "multiprocessing"]) == 0
    [published] = Path("runs").glob("*/out.jsonl")
    assert [json.loads(line)["wer"] for line in published.read_text().splitlines()] == [0.0] * 3
