"""Every pipeline file on the page "Your own data" runs over a corpus of that form, and keeps all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from curate.config import load_pipeline
from curate.plugin import PluginHost
from tests.speech_corpus import FORMS, Utterance, utterances

PAGE = (Path(__file__).parents[2] / "docs" / "your-data.md").read_text(encoding="utf-8")
FILES = {re.search(r"name: (.*)", block)[1]: block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)}  # type: ignore[index]
CORPUS = utterances()

MADE = {
    "folder": ("read_folder", "speech"),
    "librispeech": ("read_librispeech", "."),
    "ljspeech": ("read_ljspeech", "LJSpeech-1.1"),
    "segments": ("read_segments stm", "sessions"),
    "nemo-tarred": ("read_nemo_tarred", "tarred"),
    "webdataset": ("read_webdataset", "shards"),
    "lhotse": ("read_lhotse shar", "."),
    "hugging-face": ("read_hf parquet", "parquet"),
}
"""A pipeline on the page → the form of its corpus, and the folder."""


REMOTE = {"remote", "bucket"}
"""Pipelines over buckets; tests/faults/test_s3.py runs their like, and the second itself, against a server."""


@pytest.mark.parametrize("name", sorted(FILES.keys() - REMOTE))
def test_pipeline_on_the_page_keeps_the_whole_corpus(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _make(name, CORPUS)
    Path("p.yaml").write_text(FILES[name], encoding="utf-8")
    configured = load_pipeline(Path("p.yaml"), host=PluginHost(environment={"CURATE_PLUGINS": ""}))
    configured.pipeline.run(run_dir=Path("run"))
    kept = [json.loads(line) for line in Path("run/out.jsonl").read_text(encoding="utf-8").splitlines()]
    found, expected = [record["text"] for record in kept], [one.text for one in CORPUS]
    assert (sorted(found) if name == "mixed" else found) == (sorted(expected) if name == "mixed" else expected)
    assert all(record.get("speaker") for record in kept)


def _make(name: str, corpus: list[Utterance]) -> None:
    if name in MADE:
        form, folder = MADE[name]
        Path(folder).mkdir(exist_ok=True)
        FORMS[form](Path(folder).absolute(), corpus)
    elif name == "table":
        rows = [f"{one.write(Path(f'{one.name}.wav'))}\t{one.text}\t{one.speaker}\t30" for one in corpus]
        Path("clips.tsv").write_text("\n".join(["path\tsentence\tclient_id\tage", *rows]) + "\n", encoding="utf-8")
    elif name == "common-voice":
        FORMS["read_common_voice"](Path.cwd(), corpus)
        names, *rows = Path("cy/validated.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        Path("cy/train.tsv").write_text(names + "".join(rows[:9]), encoding="utf-8")
        Path("cy/dev.tsv").write_text(names + "".join(rows[9:]), encoding="utf-8")
    elif name == "mixed":
        for file, some in (("books.jsonl", corpus[:6]), ("clips.jsonl", corpus[6:])):
            rows = [
                {
                    "audio_filepath": str(one.write(Path(f"{one.name}.wav"))),
                    "duration": one.duration_s,
                    "text": one.text,
                    "speaker": one.speaker,
                }
                for one in some
            ]
            Path(file).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        assert name == "kaldi"
        Path("data/train").mkdir(parents=True)
        lines: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
        for one in corpus:
            lines["wav.scp"].append(f"{one.name} {one.write(Path.cwd() / 'audio' / f'{one.name}.wav')}\n")
            lines["text"].append(f"{one.name} {one.text}\n")
            lines["utt2spk"].append(f"{one.name} {one.speaker}\n")
        for file, some in lines.items():
            (Path("data/train") / file).write_text("".join(some), encoding="utf-8")
