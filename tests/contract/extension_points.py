"""One plugins-file with something for every extension point: what a plugin without packaging can be."""

from __future__ import annotations

import errno
import io
import wave
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import click

from curate import Gather, RecordError, RecordStage, Writer, processing_stage
from curate.executors.local import LocalExecutor
from curate.io import ManifestFormat, Row, replacing
from curate.models import AudioModel, Clip
from curate.plugin import (
    CommandRef,
    ExecutorRef,
    FormatRef,
    NormaliserRef,
    PanelRef,
    RecogniserRef,
    SchemeRef,
    hookimpl,
)
from curate.records import Record, RecordReader
from curate.report import BarChart, Panel, Table
from curate.stages import ManifestSource
from curate.storage import Identity, StoredFile

EVENTS: list[str] = []
"""What the observer has seen, in this process."""


# A source: `text|audio` lines.


@dataclass
class ReadPairs(ManifestSource):
    """Reads lines of text and audio path, with a bar between them."""

    expects = "one text|audio a line"

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if number > after:
                text, bar, audio = line.partition("|")
                row: Record = {"text": text, "audio_filepath": audio}
                yield number, row if bar else RecordError("points/no_bar", f"line {number} has no bar")


# Stages: a decorated function, and a class with an error code of its own.


@processing_stage(name="count_words", reads=["text"], writes=["words"])
def count_words(record: Record) -> Record:
    """Count the words of the reference."""
    record["words"] = len(record["text"].split())
    return record


@dataclass
class RefuseShort(RecordStage):
    """Fails on records with few words."""

    least: int = 2

    def reads(self) -> Sequence[str]:
        return ("words",)

    def writes(self) -> Sequence[str]:
        return ()

    def process_record(self, record: Record) -> Record:
        if record["words"] < self.least:
            raise RecordError("points/too_short", f"{record['words']} words")
        return record


class LongestFirst(Gather):
    """Sorts by the number of words, the most first."""

    def writes(self) -> Sequence[str]:
        return ()

    def gather(self, records: Iterator[Record]) -> Iterator[Record]:
        yield from sorted(records, key=lambda record: -record["words"])


@dataclass
class WriteTexts(Writer):
    """Writes the texts, one a line."""

    path: str = "texts.txt"

    def outputs(self) -> Sequence[str]:
        return (self.path,)

    def write(self, records: RecordReader, directory: Path) -> list[Path]:
        path = directory / self.path
        with replacing(path) as file:
            file.writelines(f"{record['text']}\n".encode() for record in records)
        return [path]


# A recogniser, a normaliser, a format, a scheme.


@dataclass
class CountsSamples(AudioModel):
    """Recognises how long a waveform is, in words."""

    unit: str = "ms"

    def infer(self, clips: Sequence[Clip]) -> list[dict[str, Any]]:
        return [{"text": f"{round(clip.duration_s * 1000)} {self.unit}"} for clip in clips]


def digits_only(text: str) -> str:
    """Keep the digits; 0 where there are none."""
    return "".join(character for character in text if character.isdigit()) or "0"


def _read_psv(path: Path, after: int) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        names = file.readline().rstrip("\n").split("|")
        for number, line in enumerate(file, start=1):
            if number > after:
                row = dict(zip(names, line.rstrip("\n").split("|"), strict=True))
                yield number, {**row, "duration": float(row["duration"])}


def _write_psv(records: RecordReader, file: BinaryIO) -> None:
    names = list(dict.fromkeys(name for record in records for name in record if name != "_id"))
    file.write(("|".join(names) + "\n").encode())
    for record in records:
        file.write(("|".join(str(record.get(name, "")) for name in names) + "\n").encode())


PSV = ManifestFormat("psv", (".psv",), _read_psv, write=_write_psv, can_grow=True)


class Tone(StoredFile):
    """A WAV file that is nowhere but in memory."""

    def __init__(self, uri: str, content: bytes) -> None:
        super().__init__(Identity(uri, len(content)))
        self._content = content

    def pread(self, length: int, offset: int) -> bytes:
        return self._content[offset : offset + length]


class Points:
    """The store of `points://tones/<ms>.wav`: recordings of so many milliseconds."""

    def open(self, uri: str) -> StoredFile:
        length_ms = int(uri.rpartition("/")[2].removesuffix(".wav"))
        file = io.BytesIO()
        with wave.open(file, "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(16_000)
            wav.writeframes(b"\x10\x20" * (16 * length_ms))
        return Tone(uri, file.getvalue())

    def identity(self, uri: str) -> Identity:
        return self.open(uri).identity

    def writing(self, uri: str) -> AbstractContextManager[BinaryIO]:
        raise OSError(errno.EROFS, "points:// is only read")


# An executor, a verb, a panel.


@attrs.frozen
class OneAfterTheOther(LocalExecutor):
    """Runs in this process, under another name."""

    name: str = attrs.field(default="one_after_the_other", init=False)


@click.command("count-kept")
@click.argument("run_dir")
def count_kept(run_dir: str) -> None:
    """Print the number of kept records."""
    from curate.engine import RunReader

    click.echo(sum(1 for _ in RunReader(run_dir).records()))


def words_panel(run: Any) -> Panel:
    """Show the words of every kept record."""
    rows = [(record["text"], record["words"]) for record in run.records()]
    chart = BarChart([text for text, _ in rows], {"words": [count for _, count in rows]})
    return Panel("Words of the texts", "words-of-texts", chart, Table(["text", "words"], rows))


# What is announced. Stages, sources, gathers and writers at the top of the file need no announcement.


@hookimpl
def curate_executors() -> list[ExecutorRef]:
    return [ExecutorRef("one_after_the_other", f"{__name__}:OneAfterTheOther", "Run in this process")]


@hookimpl
def curate_recognisers() -> list[RecogniserRef]:
    return [RecogniserRef("counts_samples", f"{__name__}:CountsSamples", "Say how long it is")]


@hookimpl
def curate_normalisers() -> list[NormaliserRef]:
    return [NormaliserRef("digits", f"{__name__}:digits_only", "Keep the digits")]


@hookimpl
def curate_formats() -> list[FormatRef]:
    return [FormatRef("psv", f"{__name__}:PSV", "Values separated by bars", suffixes=(".psv",))]


@hookimpl
def curate_storage_schemes() -> list[SchemeRef]:
    return [SchemeRef("points", f"{__name__}:Points", "Files behind points://")]


@hookimpl
def curate_error_codes() -> dict[str, str]:
    return {
        "points/no_bar": "the line has no bar between text and path",
        "points/too_short": "the record has fewer words than it should",
    }


@hookimpl
def curate_report_panels() -> list[PanelRef]:
    return [PanelRef("words", f"{__name__}:words_panel", "The words of every text")]


@hookimpl
def curate_commands() -> list[CommandRef]:
    return [CommandRef("count-kept", f"{__name__}:count_kept", "Count the kept records")]


@hookimpl
def curate_on_run_finished(event: Any) -> None:
    EVENTS.append(f"finished {event.summary['kept']}")


@hookimpl
def curate_on_record_quarantined(event: Any) -> None:
    EVENTS.append(f"quarantined {event.code}")
