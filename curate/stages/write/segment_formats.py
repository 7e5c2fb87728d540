"""Writes the segments of one recording as SRT, WebVTT, CTM, STM, RTTM, or TextGrid: each form from the same values."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import attrs

from curate.records import Record

_NOT_AVAILABLE = "<NA>"
_TIER = "utterances"
"""The tier of segments without a speaker; readers do not take it for one."""


@attrs.frozen
class Segment:
    """A stretch of a recording.

    Args:
        start_ms, end_ms: from the beginning of the recording.
        text, speaker: what is known of it; empty: nothing.
        channel: from 0; None: not known.
        words: their names, times in milliseconds, and scores, in order.
    """

    start_ms: int
    end_ms: int
    text: str = ""
    speaker: str = ""
    channel: int | None = None
    words: Sequence[tuple[str, int, int, float | None]] = ()


def srt(recording: str, segments: Sequence[Segment]) -> str:
    """Return the cues of SubRip. What would be read as markup is written with an entity."""

    def cue(number: int, each: Segment) -> str:
        times = f"{_clock(each.start_ms, ',')} --> {_clock(each.end_ms, ',')}"
        return f"{number}\n{times}\n{_line(each.text).replace('<', '&lt;')}\n\n"

    spoken = (segment for segment in segments if segment.text)
    return "".join(cue(number, each) for number, each in enumerate(spoken, start=1))


def vtt(recording: str, segments: Sequence[Segment]) -> str:
    """Return the cues of WebVTT; a speaker is the voice of a cue."""

    def cue(each: Segment) -> str:
        text = html.escape(_line(each.text), quote=False)
        return f"<v {html.escape(_line(each.speaker), quote=False)}>{text}</v>" if each.speaker else text

    spoken = (segment for segment in segments if segment.text)
    cues = (f"{_clock(each.start_ms, '.')} --> {_clock(each.end_ms, '.')}\n{cue(each)}\n\n" for each in spoken)
    return "WEBVTT\n\n" + "".join(cues)


def ctm(recording: str, segments: Sequence[Segment]) -> str:
    """Return a line for each word: recording, channel, start, duration, word, and its confidence where it is known."""
    lines: list[str] = []
    for each in segments:
        for word, start_ms, end_ms, score in each.words:
            confidence = "" if score is None else f" {score:g}"
            place = f"{_seconds(start_ms)} {_seconds(max(0, end_ms - start_ms))}"
            lines.append(f"{recording} {_channel(each)} {place} {_name(word)}{confidence}\n")
    return "".join(lines)


def stm(recording: str, segments: Sequence[Segment]) -> str:
    """Return a line for each segment: recording, channel, speaker, start, end, and the text."""
    return "".join(
        f"{recording} {_channel(each)} {_name(each.speaker) or 'unknown'} {_seconds(each.start_ms)} "
        f"{_seconds(each.end_ms)} {_line(each.text)}".rstrip()
        + "\n"
        for each in segments
    )


def rttm(recording: str, segments: Sequence[Segment]) -> str:
    """Return a line for each turn of a speaker."""
    return "".join(
        f"SPEAKER {recording} {_channel(each)} {_seconds(each.start_ms)} {_seconds(each.end_ms - each.start_ms)} "
        f"{_NOT_AVAILABLE} {_NOT_AVAILABLE} {_name(each.speaker) or _NOT_AVAILABLE} {_NOT_AVAILABLE} {_NOT_AVAILABLE}\n"
        for each in segments
    )


def text_grid(recording: str, segments: Sequence[Segment]) -> str:
    """Return a TextGrid with a tier for each speaker; segments of one speaker that overlap lie in several."""
    end_ms = max((each.end_ms for each in segments), default=0)
    tiers: list[tuple[str, list[Segment]]] = []
    for each in segments:
        name = _line(each.speaker) or _TIER
        free = (tier for known, tier in tiers if known == name and tier[-1].end_ms <= each.start_ms)
        tier = next(free, None)
        if tier is None:
            tiers.append((name, [each]))
        else:
            tier.append(each)
    parts = [_tier(number, name, tier, end_ms) for number, (name, tier) in enumerate(tiers, start=1)]
    return (
        f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = {_seconds(end_ms)}\n'
        f"tiers? <exists>\nsize = {len(tiers)}\nitem []:\n" + "".join(parts)
    )


def _tier(number: int, name: str, segments: Iterable[Segment], end_ms: int) -> str:
    intervals: list[tuple[int, int, str]] = []
    at_ms = 0
    for each in segments:
        if each.start_ms > at_ms:
            intervals.append((at_ms, each.start_ms, ""))
        intervals.append((each.start_ms, each.end_ms, _line(each.text)))
        at_ms = each.end_ms
    if at_ms < end_ms:
        intervals.append((at_ms, end_ms, ""))
    lines = [
        f"    item [{number}]:",
        '        class = "IntervalTier"',
        f"        name = {_quoted(name)}",
        "        xmin = 0",
        f"        xmax = {_seconds(end_ms)}",
        f"        intervals: size = {len(intervals)}",
    ]
    for count, (start_ms, stop_ms, text) in enumerate(intervals, start=1):
        lines += [
            f"        intervals [{count}]:",
            f"            xmin = {_seconds(start_ms)}",
            f"            xmax = {_seconds(stop_ms)}",
            f"            text = {_quoted(text)}",
        ]
    return "\n".join(lines) + "\n"


FORMS: Mapping[str, Callable[[str, Sequence[Segment]], str]] = MappingProxyType(
    {"srt": srt, "vtt": vtt, "ctm": ctm, "stm": stm, "rttm": rttm, "textgrid": text_grid}
)
"""The name of a form → what writes the segments of a recording."""

SUFFIXES: Mapping[str, str] = MappingProxyType({**{form: f".{form}" for form in FORMS}, "textgrid": ".TextGrid"})

NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {**dict.fromkeys(("srt", "vtt", "stm", "textgrid"), ("text",)), "ctm": ("words",), "rttm": ("speaker",)}
)
"""The columns without which a form has nothing to say, unless a record has `segments`."""


def segments_of(record: Record) -> list[Segment]:
    """Return the segments of a record: those in its column `segments`, or the record itself."""
    start_s = float(record.get("offset") or 0)
    given: Any = record.get("segments")
    parts = cast("list[Any]", given) if isinstance(given, list) else []
    if parts and all(isinstance(part, dict) and "text" in part for part in parts):
        inner = [{"speaker": record.get("speaker"), **part} for part in parts]
    else:
        inner = [{**record, "start": 0.0, "end": record.get("duration")}]
    found = record.get("channel")
    channel = found if isinstance(found, int) else None
    return [_segment(each, start_s, channel) for each in inner]


def _segment(part: Mapping[str, Any], start_s: float, channel: int | None) -> Segment:
    start_ms = _ms(start_s + float(part.get("start") or 0))
    end_ms = max(start_ms, _ms(start_s + float(part.get("end") or 0)))
    words = _words(part.get("words"), start_s)
    return Segment(start_ms, end_ms, str(part.get("text") or ""), str(part.get("speaker") or ""), channel, words)


def _words(value: Any, start_s: float) -> list[tuple[str, int, int, float | None]]:
    words = cast("list[Record]", value) if isinstance(value, list) else []
    return [(str(w["word"]), _ms(start_s + w["start"]), _ms(start_s + w["end"]), w.get("score")) for w in words]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f}"


def _clock(ms: int, point: str) -> str:
    seconds, rest = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _name(text: str) -> str:
    return "_".join(text.split())


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _channel(segment: Segment) -> int:
    return 1 if segment.channel is None else segment.channel + 1
