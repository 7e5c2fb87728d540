"""What files of segments say: SRT, WebVTT, TextGrid, CTM, STM and RTTM, each as turns of speech with their times."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from curate.errors import RecordError
from curate.io.lines import bounded_lines
from curate.records import Record

Turn = tuple[int, "Record | RecordError"]
"""A turn's number, from 1, and its record, or what is wrong with it.

The record has `offset` and `duration` in seconds, and what is known of `text`, `speaker`, `channel` (from 0), `words`
and `recording` (the name of the recording, where the file names one).
"""

MAX_FILE_BYTES = 64 * 2**20
"""A file of one recording's segments is not larger."""

# Each pattern is bounded where it repeats, or gives nothing back (`*+`): a file may have megabytes of `<` or of digits.
_CLOCK = r"((?:\d{1,9}:)?\d{1,9}:\d{1,9}(?:[.,]\d{1,9})?)"
_ARROW = re.compile(rf"{_CLOCK}\s{{0,99}}-->\s{{0,99}}{_CLOCK}")
_TAG = re.compile(r"<[^<>\n]{0,200}>|\{\\[^{}\n]{0,200}\}")
_VOICE = re.compile(r"<v(?:\.[^ <>]{0,200})?\s{1,99}([^<>]{1,200})>")
_PAUSE_S = 0.5


def read_subtitles(path: Path) -> Iterator[Turn]:
    """Yield the cues of SRT or WebVTT; the voice of a WebVTT cue is its speaker, and markup is left out."""
    number = 0
    for block in re.split(r"\n[ \t]*\n", _text_of(path)):
        match = _ARROW.search(block)
        if match is None:
            wrong = next((line for line in block.splitlines() if "-->" in line), "")
            if wrong and not block.lstrip().startswith("NOTE"):
                number += 1
                yield number, RecordError("bad_row", f"{wrong:.80} are not the times of a cue")
            continue
        number += 1
        begins, ends = map(_clock, match.groups())
        spoken = block[match.end() :].partition("\n")[2]
        voice = _VOICE.search(spoken)
        record: Record = {"offset": begins, "duration": round(ends - begins, 6)}
        record["text"] = " ".join(html.unescape(_TAG.sub(" ", spoken)).split())
        if voice is not None:
            record["speaker"] = " ".join(html.unescape(voice[1]).split())
        yield (
            number,
            record if ends > begins else RecordError("bad_segment", f"the cue ends before it begins: {match[0]}"),
        )


def _clock(text: str) -> float:
    *hours, minutes, seconds = text.replace(",", ".").split(":")
    return round(3600 * float(hours[0] if hours else 0) + 60 * float(minutes) + float(seconds), 6)


_INTERVAL = re.compile(
    r'xmin\s*+=\s*+([\d.eE+-]++)\s++xmax\s*+=\s*+([\d.eE+-]++)\s++text\s*+=\s*+"((?:[^"]++|"")*+)"'
    r'|class\s*+=\s*+"(\w++)"\s++name\s*+=\s*+"((?:[^"]++|"")*+)"'
)
_SHORT = re.compile(r'"((?:[^"]++|"")*+)"|([-\d.eE+]++)')
_NOT_SPEAKERS = frozenset(
    {"words", "word", "text", "utterances", "utterance", "sentences", "transcription", "segments"}
)
_SMALL_TIERS = frozenset({"phones", "phone", "phonemes"})


def read_text_grid(path: Path) -> Iterator[Turn]:
    """Yield the intervals with text of Praat's TextGrid, long or short form; a tier named for a person is its speaker.

    Tiers of phones, and tiers of points, are left out. `ann - words`, as aligners write it, is ann's.
    """
    number = 0
    for tier, begins, ends, text in _intervals(_text_of(path)):
        if not text.strip() or tier.rpartition(" - ")[2].lower() in _SMALL_TIERS:
            continue
        number += 1
        record: Record = {"offset": begins, "duration": round(ends - begins, 6), "text": " ".join(text.split())}
        record["tier"] = tier
        speaker = tier.rpartition(" - ")[0] or ("" if tier.lower() in _NOT_SPEAKERS else tier)
        if speaker:
            record["speaker"] = speaker
        yield number, record if ends > begins else RecordError("bad_segment", f"the interval at {begins} s is empty")


def _intervals(text: str) -> Iterator[tuple[str, float, float, str]]:
    if "intervals" not in text and "xmin" not in text:
        yield from _short_intervals(text)
        return
    tier, is_interval = "", False
    for match in _INTERVAL.finditer(text):
        if match[4] is not None:
            tier, is_interval = match[5].replace('""', '"'), match[4] == "IntervalTier"
        elif is_interval:
            yield tier, round(float(match[1]), 6), round(float(match[2]), 6), match[3].replace('""', '"')


def _short_intervals(text: str) -> Iterator[tuple[str, float, float, str]]:
    """Yield the intervals of the short form, which has the values alone, in the same order."""
    values: Iterator[Any] = (
        m[1] if m[1] is not None else float(m[2]) for m in _SHORT.finditer(text.partition("<exists>")[2])
    )
    values = iter(list(values))
    try:
        for _ in range(int(next(values))):
            kind, name, _, _, count = (next(values) for _ in range(5))
            for _ in range(int(count)):
                begins = next(values)
                if kind == "IntervalTier":
                    yield name, float(begins), float(next(values)), str(next(values)).replace('""', '"')
                else:
                    next(values)
    except (StopIteration, TypeError, ValueError):
        return


def read_ctm(path: Path) -> Iterator[Turn]:
    """Yield runs of words of one recording and channel, without a pause of half a second or more in them.

    `words` has the words with their times from the run's beginning, and their confidence as `score`.
    """
    number, held = 0, list[list[str]]()
    for _line, cells in enumerate(_cells(path), start=1):
        if isinstance(cells, RecordError) or len(cells) < 5 or not _are_numbers(cells[2], cells[3]):
            number += bool(held)
            if held:
                yield number, _run(held)
                held = []
            number += 1
            yield (
                number,
                RecordError("bad_row", f"{' '.join(cells) if isinstance(cells, list) else cells!s:.80} is not CTM"),
            )
            continue
        if held and (cells[:2] != held[-1][:2] or float(cells[2]) - _end(held[-1]) >= _PAUSE_S):
            number += 1
            yield number, _run(held)
            held = []
        held.append(cells)
    if held:
        yield number + 1, _run(held)


def _end(cells: list[str]) -> float:
    return float(cells[2]) + float(cells[3])


def _run(held: list[list[str]]) -> Record:
    begins = float(held[0][2])
    words: list[Record] = []
    for cells in held:
        word: Record = {
            "word": cells[4],
            "start": round(float(cells[2]) - begins, 3),
            "end": round(_end(cells) - begins, 3),
        }
        if len(cells) > 5 and _are_numbers(cells[5]):
            word["score"] = float(cells[5])
        words.append(word)
    return {
        "recording": held[0][0],
        **_channel(held[0][1]),
        "offset": begins,
        "duration": round(_end(held[-1]) - begins, 3),
        "text": " ".join(cells[4] for cells in held),
        "words": words,
    }


def read_stm(path: Path) -> Iterator[Turn]:
    """Yield the lines of STM: recording, channel, speaker, begin, end, labels and the transcript."""
    for number, cells in enumerate(_cells(path), start=1):
        if isinstance(cells, RecordError) or len(cells) < 5 or not _are_numbers(cells[3], cells[4]):
            yield number, RecordError("bad_row", f"{_shown(cells)} is not STM")
            continue
        rest = cells[5:]
        record: Record = {
            "recording": cells[0],
            **_channel(cells[1]),
            "offset": float(cells[3]),
            "duration": round(float(cells[4]) - float(cells[3]), 6),
            "speaker": cells[2],
        }
        if rest and rest[0].startswith("<") and rest[0].endswith(">"):
            record["labels"] = rest.pop(0)
        record["text"] = " ".join(rest)
        yield number, record


def read_rttm(path: Path) -> Iterator[Turn]:
    """Yield the speaker turns of RTTM; it has no transcripts."""
    number = 0
    for cells in _cells(path):
        if isinstance(cells, RecordError) or cells[0] == "SPEAKER":
            number += 1
            if isinstance(cells, RecordError) or len(cells) < 8 or not _are_numbers(cells[3], cells[4]):
                yield number, RecordError("bad_row", f"{_shown(cells)} is not RTTM")
                continue
            if float(cells[4]) == 0:
                yield number, RecordError("bad_segment", f"the turn at {cells[3]} s is empty")
                continue
            record: Record = {"recording": cells[1], "offset": float(cells[3])}
            yield number, record | {"duration": float(cells[4]), "speaker": cells[7]}


SEGMENT_READERS: Mapping[str, Callable[[Path], Iterator[Turn]]] = MappingProxyType(
    {
        ".srt": read_subtitles,
        ".vtt": read_subtitles,
        ".textgrid": read_text_grid,
        ".ctm": read_ctm,
        ".stm": read_stm,
        ".rttm": read_rttm,
    }
)
"""The suffix of a file of segments, in lower case → its reader."""


def _cells(path: Path) -> Iterator[list[str] | RecordError]:
    """Yield the words of each line that is neither blank nor a comment."""
    for line in bounded_lines(path):
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            yield RecordError("bad_row", f"the line is not UTF-8: {error.reason}")
            continue
        if text.strip() and not text.startswith(";"):
            yield text.split()


def _shown(cells: list[str] | RecordError) -> str:
    return f"{' '.join(cells) if isinstance(cells, list) else cells!s:.80}"


def _channel(name: str) -> Record:
    """Return the column `channel`, from 0, for a channel that is numbered from 1 or has a letter."""
    number = int(name) - 1 if name.isdecimal() and int(name) > 0 else "AB".find(name.upper()) if len(name) == 1 else -1
    return {"channel": number} if number >= 0 else {}


def _are_numbers(*cells: str) -> bool:
    return all(re.fullmatch(r"\d+\.?\d*|\.\d+", cell) for cell in cells)


def _text_of(path: Path) -> str:
    """Return the text of a file, without byte order mark and with plain line ends.

    Raises:
        EOFError: the file is larger than any of one recording.
    """
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise EOFError(f"it is larger than {MAX_FILE_BYTES} bytes")
    is_utf_16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # as Praat writes it
    text = content.decode("utf-16" if is_utf_16 else "utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")
