"""The contracts of sources, writers, formats, recognisers and normalisers: ours keep them, and a breach is caught."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from curate import Source, Writer
from curate.asr import Transcript, Word
from curate.io import FORMATS, ManifestFormat
from curate.io.jsonl import JSONL
from curate.stages import Merge, ReadManifest, ReadRecords
from curate.testing import AudioModelContract, FormatContract, NormaliserContract, SourceContract, WriterContract
from curate.text import normaliser
from tests.unit.stages.stub_recogniser import StubRecogniser


class TestReadManifest(SourceContract):
    def source(self, folder: Path) -> Source:
        lines = [json.dumps({"text": str(n), "audio_filepath": f"{n}.wav"}) for n in range(4)]
        (folder / "a.jsonl").write_text("\n".join([*lines, "{broken", ""]))
        (folder / "b.jsonl").write_text("\n\n".join(lines))
        return ReadManifest([folder / "a.jsonl", folder / "b.jsonl"])


class TestReadRecords(SourceContract):
    def source(self, folder: Path) -> Source:
        return ReadRecords([{"n": n} for n in range(5)])


class TestMerge(WriterContract):
    def writer(self) -> Writer:
        return Merge("out.parquet")


class TestParquet(FormatContract):
    def format(self) -> ManifestFormat:
        return FORMATS["parquet"]


class TestJsonLines(FormatContract):
    def format(self) -> ManifestFormat:
        return FORMATS["jsonl"]


class TestGzippedJsonLines(FormatContract):
    def format(self) -> ManifestFormat:
        return FORMATS["jsonl.gz"]


class TestStubRecogniser(AudioModelContract):
    def model(self) -> Any:
        return StubRecogniser(timestamps=True, confidence=True)


class TestWhisperEnglish(NormaliserContract):
    examples = {"Hello, World!": "hello world", "twenty one": "21"}  # noqa: RUF012 (as an author writes it)

    def normaliser(self) -> Any:
        return normaliser("whisper-english")


# Each way to break a contract is caught by its own test.


class Forgetful(ReadRecords):
    def read(self, after: str | None = None) -> Iterator[Any]:
        return super().read()


class Repeats(ReadRecords):
    def read(self, after: str | None = None) -> Iterator[Any]:
        rows: Iterator[Any] = super().read(after)
        for record in rows:
            yield {**record, "_id": "records:1"}


class Boasts(ReadRecords):
    def record_columns(self) -> Any:
        return {"n", "speaker"}


class LeavesFiles(Merge):
    def write(self, records: Any, directory: Path) -> list[Path]:
        (directory / "left.tmp").write_text("left")
        return super().write(records, directory)


class WritesTheTime(Merge):
    calls = 0

    def write(self, records: Any, directory: Path) -> list[Path]:
        type(self).calls += 1
        (directory / "out.jsonl").write_text(str(self.calls))
        return [directory / "out.jsonl"]


def _skips_nothing(path: Path, after: int) -> Iterator[Any]:
    return JSONL.read_rows(path, 0)


class Greedy(StubRecogniser):
    def recognise(self, waveforms: Sequence[Any]) -> list[Transcript]:
        return [Transcript(str(len(waveforms))) for _ in waveforms]


class Outside(StubRecogniser):
    def __init__(self) -> None:
        super().__init__(timestamps=True)

    def recognise(self, waveforms: Sequence[Any]) -> list[Transcript]:
        return [Transcript("a", words=(Word("a", 0.0, 99.0),)) for _ in waveforms]


class Undeclared(StubRecogniser):
    def rows(self, transcripts: Sequence[Any]) -> list[Any]:
        return [{"text": "", "mood": "good"} for _ in transcripts]


class Scales(StubRecogniser):
    def recognise(self, waveforms: Sequence[Any]) -> list[Transcript]:
        for waveform in waveforms:
            waveform *= 0.5
        return super().recognise(waveforms)


class Silent(StubRecogniser):
    def recognise(self, waveforms: Sequence[Any]) -> list[Transcript]:
        return [Transcript("") for _ in waveforms[1:]]


def source_contract(cls: Any) -> SourceContract:
    class Contract(SourceContract):
        def source(self, folder: Path) -> Source:
            return cls([{"n": n} for n in range(4)])

    return Contract()


def writer_contract(cls: Any) -> WriterContract:
    class Contract(WriterContract):
        def writer(self) -> Writer:
            return cls("out.jsonl")

    return Contract()


def format_contract(**changes: Any) -> FormatContract:
    class Contract(FormatContract):
        def format(self) -> ManifestFormat:
            return attrs.evolve(JSONL, **changes)

    return Contract()


def model_contract(cls: Any) -> AudioModelContract:
    class Contract(AudioModelContract):
        def model(self) -> Any:
            return cls()

    return Contract()


def normaliser_contract(function: Any) -> NormaliserContract:
    class Contract(NormaliserContract):
        def normaliser(self) -> Any:
            return function

    return Contract()


@pytest.mark.parametrize(
    ("contract", "test"),
    [
        (source_contract(Forgetful), "test_it_resumes_after_any_record"),
        (source_contract(Repeats), "test_ids_are_unique"),
        (source_contract(Boasts), "test_its_columns_are_those_of_its_records"),
        (writer_contract(LeavesFiles), "test_it_writes_the_files_that_it_declares"),
        (writer_contract(WritesTheTime), "test_the_batches_make_no_difference"),
        (format_contract(read_rows=_skips_nothing), "test_it_can_be_read_from_any_row"),
        (format_contract(count_rows=lambda path: 99), "test_it_counts_rows_and_names_columns"),
        (format_contract(columns=lambda path: ["x"]), "test_it_counts_rows_and_names_columns"),
        (model_contract(Greedy), "test_the_batch_makes_no_difference"),
        (model_contract(Outside), "test_every_clip_has_a_row"),
        (model_contract(Silent), "test_every_clip_has_a_row"),
        (model_contract(Undeclared), "test_every_clip_has_a_row"),
        (model_contract(Scales), "test_clips_and_records_are_left_as_they_are"),
        (normaliser_contract(len), "test_an_odd_text_costs_one_record_at_most"),
        (normaliser_contract(lambda text: text.encode().decode()), "test_an_odd_text_costs_one_record_at_most"),
    ],
)
def test_each_way_to_break_a_contract_is_caught(contract: Any, test: str, tmp_path: Path) -> None:
    method = getattr(contract, test)
    with pytest.raises((AssertionError, UnicodeError)):
        method(tmp_path) if method.__code__.co_argcount == 2 else method()
