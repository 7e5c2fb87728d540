"""Inputs made to hurt, and a process of 2 GB that works on them one after the other.

    python -m tests.faults.hostile EXECUTOR FOLDER NAME…

Each input is announced before the work on it, and followed by a line of JSON with what has become of it, so that a
reader sees how long it took, and which one was the last. The files are small; what they claim, or unpack to, is not.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import resource
import struct
import sys
import tarfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from curate import Pipeline, RecordStage
from curate.errors import CurateError
from curate.records import Record
from curate.stages import (
    AudioDuration,
    AudioFilesWriter,
    CharacterErrorRate,
    FolderReader,
    KaldiReader,
    KaldiWriter,
    Merge,
    NemoTarredWriter,
    Partition,
    ReadManifest,
    SegmentsReader,
    SharWriter,
    SubtitlesWriter,
    WebDatasetReader,
    WebDatasetWriter,
    WordErrorRate,
)

MOST_BYTES = 2 << 30

Stages = Sequence[Any]
Made = tuple[Stages, str]
"""The stages, and what is expected: how many records are kept and the codes of the others, or a part of the error."""

CASES: dict[str, Callable[[Path], Made]] = {}


def case(make: Callable[[Path], Made]) -> Callable[[Path], Made]:
    CASES[make.__name__] = make
    return make


def row(**columns: Any) -> str:
    return json.dumps({"audio_filepath": "a.wav", **columns})


GOOD = row(text="good")


def manifest(folder: Path, content: bytes | str, name: str = "m.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def merged(path: Path, *stages: Any, to: str = "out.jsonl") -> Stages:
    return [ReadManifest(path), Partition(), *stages, Merge(to)]


# Manifests: values that no record may have.


@case
def array_of_odd_values(folder: Path) -> Made:
    odd = ["NaN", "-Infinity", "1e999", "1" * 5000, "[" * 3000 + "]" * 3000, '{"a": ' * 500 + "1" + "}" * 500]
    rows = [f'{{"v": {value}, "text": "}}],\\""}}' for value in odd]
    content = ",".join([GOOD, *rows, '{"text": "\x00"}']).encode().replace(b"\x00", b"\xff")
    return merged(manifest(folder, b"[" + content + b"," + GOOD.encode() + b"]", "m.json")), "2 bad_json=7"


@case
def large_array_of_nan(folder: Path) -> Made:
    rows = ",".join('{"v": NaN, "text": "%s"}' % ("x" * (n % 997)) for n in range(5000))
    return merged(manifest(folder, f"[{GOOD},{rows},{GOOD}]", "m.json")), "2 bad_json=5000"


@case
def lone_surrogates(folder: Path) -> Made:
    rows = [row(text="\ud800"), row(text="a", **{"\udfff": 1}), row(audio_filepath="\udc41.wav"), GOOD]
    return merged(manifest(folder, "\n".join(rows)), to="out.parquet"), "4"


@case
def odd_keys(folder: Path) -> Made:
    rows = ['{"": 1}', '{"_id": {"a": []}, "source_id": null}', '{"a\\u0000b": 1}', '{"__class__": "x"}', GOOD]
    return merged(manifest(folder, "\n".join(rows)), to="out.csv"), "5"


@case
def million_columns(folder: Path) -> Made:
    wide = json.dumps({f"c{n}": n for n in range(400_000)})
    return merged(manifest(folder, f"{GOOD}\n{wide}\n{GOOD}\n")), "3"


@case
def hundred_thousand_columns_as_parquet(folder: Path) -> Made:
    rows = [json.dumps({f"c{n}": n for n in range(start, start + 1000)}) for start in range(0, 100_000, 1000)]
    return merged(manifest(folder, "\n".join(rows)), to="out.parquet"), "at most 20,000"


@case
def misspelt_column_among_a_million(folder: Path) -> Made:
    path = manifest(folder, json.dumps({f"c{n}": n for n in range(400_000)}))
    return [ReadManifest(path, keep=["zzz"])], "has no column 'zzz'"


@case
def lone_surrogates_in_every_data_set(folder: Path) -> Made:
    (folder / "a.wav").write_bytes(wav())
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.wav")).write_bytes(wav())
    rows = [row(text="\ud800"), row(text="b", **{"\udfff": "\udfff"}), row(audio_filepath="\udcff.wav", text="c"), GOOD]
    writers = [
        writer(name)
        for name, writer in {
            "sounds": AudioFilesWriter,
            "kaldi": KaldiWriter,
            "shar": SharWriter,
            "subtitles": SubtitlesWriter,
            "tars": partial(NemoTarredWriter, lang="en"),
            "web": WebDatasetWriter,
        }.items()
    ]
    return [ReadManifest(manifest(folder, "\n".join(rows)), speaker="s"), *writers], "4"


# Manifests: files that unpack to more than there is.


def gzip_of(block: bytes, times: int) -> bytes:
    return gzip.compress(block) * times  # members of gzip follow each other


@case
def gzip_of_one_line(folder: Path) -> Made:
    content = gzip_of(GOOD.encode() + b"\n", 1) + gzip_of(b"x" * (1 << 24), 40) + gzip_of(b"\n" + GOOD.encode(), 1)
    return merged(manifest(folder, content, "m.jsonl.gz")), "2 line_too_long=1"


@case
def gzip_of_blanks_in_an_array(folder: Path) -> Made:
    content = gzip_of(b"[", 1) + gzip_of(b" " * (1 << 24), 40) + gzip_of(GOOD.encode() + b"]", 1)
    return merged(manifest(folder, content, "m.json.gz")), "1"


@case
def gzip_of_one_quoted_cell(folder: Path) -> Made:
    content = gzip_of(b'audio_filepath,text\n1.wav,"', 1) + gzip_of(b"x\n" * (1 << 23), 4)
    return merged(manifest(folder, content, "m.csv.gz")), "does not end"


@case
def bzip2_of_newlines(folder: Path) -> Made:
    content = bz2.compress(b"\n" * (1 << 24)) * 5 + bz2.compress(GOOD.encode())
    return merged(manifest(folder, content, "m.jsonl.bz2")), "1"


@case
def zstd_of_one_line(folder: Path) -> Made:
    import pyarrow

    codec: Any = pyarrow.Codec("zstd")
    content = bytes(codec.compress(b"x" * (1 << 24))) * 40 + bytes(codec.compress(b"\n" + GOOD.encode()))
    return merged(manifest(folder, content, "m.jsonl.zst")), "1 line_too_long=1"


@case
def xz_that_asks_for_four_gigabytes(folder: Path) -> Made:
    import lzma

    content = bytearray(lzma.compress(GOOD.encode()))
    size = (content[12] + 1) * 4
    header = content[12 : 12 + size - 4]
    header[header.index(b"\x21\x01") + 2] = 40  # a dictionary of 4 GB
    content[12 : 12 + size] = header + struct.pack("<I", zlib.crc32(header))
    return merged(manifest(folder, bytes(content), "m.jsonl.xz")), "unpacking its xz needs more memory"


@case
def zip_archive(folder: Path) -> Made:
    return merged(manifest(folder, b"PK\x03\x04" + bytes(1000), "m.jsonl")), "is a zip archive, not a manifest"


@case
def sparse_file_of_zeros(folder: Path) -> Made:
    path = manifest(folder, GOOD + "\n")
    os.truncate(path, 640 << 20)
    return merged(path), "1 line_too_long=1"


# Parquet


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


@case
def parquet_of_one_large_string(folder: Path) -> Made:
    rows = 2500
    columns = {"audio_filepath": ["a.wav"] * rows, "n": list(range(rows))}
    import pyarrow

    indices = pyarrow.array([0] * rows, pyarrow.int32())
    shared: Any = pyarrow.DictionaryArray.from_arrays(indices, ["z" * 1_000_000])
    path = write_parquet(folder / "m.parquet", {**columns, "text": shared}, store_schema=False)
    stages = [ReadManifest(path), Partition(), Shortens(), Merge("out.jsonl")]
    return stages, str(rows)


@case
def parquet_of_one_large_string_in_lists(folder: Path) -> Made:
    import pyarrow

    rows = 2500
    indices = pyarrow.array([0] * rows, pyarrow.int32())
    shared: Any = pyarrow.DictionaryArray.from_arrays(indices, ["z" * 1_000_000])
    lists = pyarrow.ListArray.from_arrays(pyarrow.array(range(rows + 1), pyarrow.int32()), shared)
    path = write_parquet(folder / "m.parquet", {"text": lists}, store_schema=False)
    return [ReadManifest(path), Partition(), Shortens(), Merge("out.jsonl")], str(rows)


@case
def parquet_of_many_columns(folder: Path) -> Made:
    path = write_parquet(folder / "m.parquet", {f"c{n}": [n] for n in range(20_000)})
    return merged(path), "1"


def broken_parquet(folder: Path, change: Callable[[bytearray], None]) -> Made:
    content = bytearray(write_parquet(folder / "w.parquet", {"text": ["a", "b"]}).read_bytes())
    change(content)
    return merged(manifest(folder, bytes(content), "m.parquet")), "m.parquet"


@case
def parquet_with_a_long_footer(folder: Path) -> Made:
    def change(content: bytearray) -> None:
        content[-8:-4] = struct.pack("<I", 0x7FFFFFFF)

    return broken_parquet(folder, change)


@case
def parquet_with_a_footer_of_noise(folder: Path) -> Made:
    def change(content: bytearray) -> None:
        length = struct.unpack("<I", content[-8:-4])[0]
        content[-8 - length : -8] = bytes(n * 37 % 251 for n in range(length))

    return broken_parquet(folder, change)


@case
def parquet_that_is_cut(folder: Path) -> Made:
    def change(content: bytearray) -> None:
        del content[len(content) // 2 :]

    return broken_parquet(folder, change)


# What is in the place of a file.


@case
def fifo_for_a_manifest(folder: Path) -> Made:
    os.mkfifo(folder / "m.jsonl")
    return merged(folder / "m.jsonl"), "is not a regular file"


@case
def device_for_a_manifest(folder: Path) -> Made:
    return merged(Path("/dev/zero")), "is not a regular file"


@case
def link_to_itself_for_a_manifest(folder: Path) -> Made:
    (folder / "m.jsonl").symlink_to("m.jsonl")
    return merged(folder / "m.jsonl"), "is a link to m.jsonl, and no file is there"


@case
def folder_of_odd_entries(folder: Path) -> Made:
    corpus = folder / "corpus"
    corpus.mkdir()
    sound = wav()
    names = [b"a\nb.wav", b"\xff\xfe.wav", b"  .wav", "\u202eevil.wav".encode(), b"q\"'<script>.wav", b"::x.wav"]
    for name in names:
        Path(os.fsdecode(os.fsencode(corpus) + b"/" + name)).write_bytes(sound)
    for name in ("fifo.wav", "with.txt"):
        os.mkfifo(corpus / name)
    (corpus / "with.wav").write_bytes(sound)
    (corpus / "round.wav").symlink_to("round.wav")
    (corpus / "round").symlink_to(corpus)
    return [FolderReader(corpus), Partition(), AudioDuration(), Merge("out.jsonl")], "6 not_a_regular_file=1"


@case
def kaldi_with_an_endless_line(folder: Path) -> Made:
    (folder / "wav.scp").write_bytes(b"a a.wav\n")
    os.truncate(folder / "wav.scp", 3 << 30)
    return [KaldiReader(folder), Merge("out.jsonl")], "wav.scp: line 2 is longer than 16777216 bytes"


@case
def segments_that_match_for_ever(folder: Path) -> Made:
    (folder / "a.wav").write_bytes(wav())
    (folder / "a.srt").write_text("\n\n".join(["1" * 300_000, "<v." * 100_000, "1:1.1" + " " * 300_000, "<" * 300_000]))
    (folder / "a.vtt").write_text("00:00.000 --> 00:00.010\n" + "<v." * 100_000 + "<" * 300_000 + "{\\" * 100_000)
    (folder / "a.TextGrid").write_text('intervals xmin = 0 xmax = 1 text = "' + "a" * 3_000_000 + "xmin = " * 10_000)
    os.mkfifo(folder / "b.srt")
    return [SegmentsReader(folder), Merge("out.jsonl")], "1"


@dataclass
class Grows(RecordStage):
    """Appends to the manifest that is being read."""

    path: str
    rows: int

    def writes(self) -> tuple[str, ...]:
        return ()

    def process_record(self, record: Record) -> Record:
        if record["text"] == "first":
            with Path(self.path).open("a") as file:
                file.write(f"{GOOD}\n" * self.rows)
        return record


@case
def manifest_that_grows(folder: Path) -> Made:
    path = manifest(folder, f"{row(text='first')}\n" + f"{GOOD}\n" * 60_000)
    stages = [ReadManifest(path), Partition(max_records=100, by_length=False), Grows(str(path), 2), Merge("out.jsonl")]
    return stages, "changed"


# Tars


def tar_with(folder: Path, header: Callable[[bytearray], None], pax: bytes = b"") -> Path:
    """Write a tar of one sample whose first header is changed, with a correct checksum."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("a.wav", "b.wav"):
            info = tarfile.TarInfo(name)
            info.size = len(wav())
            tar.addfile(info, io.BytesIO(wav()))
    content = bytearray(out.getvalue())
    first = content[:512]
    header(first)
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    (folder / "s.tar").write_bytes(pax + first + content[512:])
    return folder / "s.tar"


def in_shard(path: Path) -> Stages:
    return [WebDatasetReader(path), AudioDuration(), Merge("out.jsonl")]


@case
def tar_that_leads_back(folder: Path) -> Made:
    def change(header: bytearray) -> None:
        header[124:136] = b"-0000001000\0"

    return in_shard(tar_with(folder, change)), "its header is broken"


@case
def tar_of_an_exabyte(folder: Path) -> Made:
    def change(header: bytearray) -> None:
        header[124:136] = b"\x80" + (1 << 60).to_bytes(11, "big")

    return in_shard(tar_with(folder, change)), "the file ends at"


@case
def tar_with_a_negative_binary_size(folder: Path) -> Made:
    def change(header: bytearray) -> None:
        header[124:136] = b"\xff" * 10 + b"\xfc\x00"

    return in_shard(tar_with(folder, change)), "its header is broken"


@case
def tar_with_a_megabyte_of_attributes(folder: Path) -> Made:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 20
    pax = info.tobuf(tarfile.USTAR_FORMAT) + b"4 =\n" * (1 << 18)
    return in_shard(tar_with(folder, lambda header: None, pax * 3)), "2"


# Recordings: what a header claims.


def wav(
    rate: int = 8000, channels: int = 1, bits: int = 16, size: int | None = None, data: bytes = bytes(1600)
) -> bytes:
    block = channels * bits // 8 & 0xFFFF
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    length = len(data) if size is None else size
    riff = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", length) + data
    return b"RIFF" + struct.pack("<I", len(riff)) + riff


def w64(frames: int) -> bytes:
    import numpy as np
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.zeros(800), 8000, format="W64", subtype="PCM_16")
    content = bytearray(out.getvalue())
    at = content.index(b"data")
    content[at + 16 : at + 24] = struct.pack("<q", 2 * frames)
    return bytes(content)


def recordings() -> Iterator[tuple[str, bytes]]:
    yield "good.wav", wav()
    yield "channels.wav", wav(channels=65535, data=bytes(65535 * 4))
    yield "many_channels.wav", wav(channels=1024, data=bytes(1024 * 64))
    yield "no_channels.wav", wav(channels=0)
    yield "no_bits.wav", wav(bits=0)
    yield "odd_bits.wav", wav(bits=65535)
    yield "fast.wav", wav(rate=0xFFFFFFFF)
    yield "slow.wav", wav(rate=0)
    yield "claims.wav", wav(size=0x7FFFFFF0)
    yield "claims.w64", w64(1 << 60)
    yield "negative.w64", w64(-5)
    yield "claims.au", struct.pack(">4sIIIII", b".snd", 24, 0xFFFFFFF0, 3, 8000, 1) + bytes(1600)
    ssnd = b"SSND" + struct.pack(">III", 0xFFFFFFF0, 0, 0) + bytes(1600)
    for name, rate in (("fast.aiff", b"\x7f\xff" + bytes(8)), ("claims.aiff", b"\x40\x0b\xfa" + bytes(7))):
        comm = b"COMM" + struct.pack(">IhIh", 18, 1, 0xFFFFFFFF, 16) + rate
        yield name, b"FORM" + struct.pack(">I", len(comm + ssnd) + 4) + b"AIFF" + comm + ssnd
    nist = b"NIST_1A\n   1024\nsample_count -i " + b"9" * 300 + b"\nsample_rate -i 8000\nchannel_count -i 1\n"
    yield "digits.sph", (nist + b"sample_n_bytes -i 2\nend_head\n").ljust(1024) + bytes(1600)
    yield "chunks.wav", wav()[:12] + struct.pack("<4sI", b"junk", 0) * 200_000 + wav()[12:]
    yield "frames.mp3", b"\xff\xfb\x90\x00" * 400_000
    yield "tags.mp3", b"ID3\4\0\0" + b"\x7f" * 4 + bytes(5000)


def containers() -> Iterator[tuple[str, bytes]]:
    yield "good.wav", wav()
    caf = b"caff\0\1\0\0desc" + struct.pack(">qd4sIIIII", 32, 8000.0, b"lpcm", 0, 2, 1, 1, 16)
    yield "claims.caf", caf + b"data" + struct.pack(">qI", 1 << 60, 0) + bytes(1600)
    yield "pages.ogg", (b"OggS\0\2" + b"\xff" * 20 + b"\xff" + b"\xff" * 255) * 3000
    yield "atoms.m4a", b"\0\0\0\x10ftypM4A \0\0\0\0" + struct.pack(">I4sQ", 1, b"moov", 1 << 62) + bytes(2000)
    yield (
        "nested.m4a",
        b"\0\0\0\x10ftypM4A \0\0\0\0" + b"".join(struct.pack(">I4s", 8 * (5000 - n), b"moov") for n in range(5000)),
    )
    yield "sizes.mka", b"\x1aE\xdf\xa3\x01" + b"\xff" * 7 + b"\x18S\x80g\x01" + b"\xfe" * 7 + bytes(2000)


def of_recordings(folder: Path, found: Iterator[tuple[str, bytes]]) -> Made:
    rows: list[str] = []
    for name, content in found:
        (folder / name).write_bytes(content)
        rows.append(row(audio_filepath=name, text=name))
    return merged(manifest(folder, "\n".join(rows)), AudioDuration()), "codes"


@case
def recordings_that_claim(folder: Path) -> Made:
    return of_recordings(folder, recordings())


@case
def containers_that_claim(folder: Path) -> Made:
    return of_recordings(folder, containers())


WITH_PROCESSES = ("containers_that_claim",)
"""What needs more libraries than fit into 2 GB next to those of the driver."""


# Texts


class Shortens(RecordStage):
    """Leaves the beginning of a text."""

    def writes(self) -> tuple[str, ...]:
        return ("text",)

    def process_record(self, record: Record) -> Record:
        return {**record, "text": str(record["text"][:1])[:10]}


def texts(count: int) -> Iterator[str]:
    for letters in (
        "(",
        "<",
        "[",
        "!",
        "9",
        "9 ",
        "1,",
        "one ",
        "a\u0301\u0323",
        "'",
        "\ud800",
        "\u200d",
        "x ",
        "\u4e00 ",
    ):
        yield (letters * count)[:count] + "a"


@case
def texts_without_end(folder: Path) -> Made:
    rows = [row(text=text, pred_text=text[::-1], lang=lang) for text in texts(20_000) for lang in ("en", "th")]
    stages = [WordErrorRate(normaliser="auto"), CharacterErrorRate(normaliser="none")]
    return merged(manifest(folder, "\n".join(rows)), *stages), str(len(rows))


# The process


def outcome(make: Callable[[Path], Made], folder: Path, executor: str) -> dict[str, Any]:
    """Run the pipeline over one input, and return what has become of it."""
    stages, expected = make(folder)
    began = time.monotonic()
    try:
        result = Pipeline("hostile", stages).run(executor, run_dir=folder / "run", max_failures=10**6)
        codes = Counter(note.code for note in result.quarantined)
        found = " ".join([str(result.summary["kept"]), *(f"{code}={n}" for code, n in sorted(codes.items()))])
        if expected == "codes":
            found = json.dumps({Path(note.record["audio_filepath"]).name: note.code for note in result.quarantined})
    except CurateError as error:
        found = f"{type(error).__name__}: {error}"[:2000]
    return {"expected": expected, "found": found, "seconds": round(time.monotonic() - began, 1)}


def work(executor: str, folder: Path, names: Sequence[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    for name in names:
        print(f"{name}", flush=True)
        place = folder / name
        place.mkdir(parents=True)
        os.chdir(place)
        print(json.dumps(outcome(CASES[name], place, executor)), flush=True)


if __name__ == "__main__":
    from tests.faults import hostile  # the stages' classes are this module's, not __main__'s

    hostile.work(sys.argv[1], Path(sys.argv[2]), sys.argv[3:] or list(hostile.CASES))
