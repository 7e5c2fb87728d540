"""The reader of Lhotse's cuts: a manifest of cuts, or a Shar folder."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from curate.errors import PlanError, RecordError
from curate.io import Row, read_rows
from curate.records import Record
from curate.stages.sources.audio_roots import listed_paths, root_paths
from curate.stages.sources.manifest_source import RowSource, matching_files
from curate.storage import SEPARATOR

_TOLERANCE_S = 1e-3
_RESERVED = frozenset({"offset", "duration", "channel"})
"""Columns by which audio is found: a custom field of such a name is left out where a cut has none of its own."""

_OF_SUPERVISIONS = (("speaker", "speaker"), ("language", "lang"), ("gender", "gender"))


@dataclass
class LhotseReader(RowSource):
    """Reads Lhotse cuts: `cuts.jsonl.gz` and the like, or a Shar folder with its tars.

    The columns are `audio_filepath`, `offset` where a cut is a part of its recording, `duration`, `text`, `speaker`,
    `lang`, `gender`, `utterance_id`, `recording_id`, and all custom fields. A cut with several supervisions has their
    texts joined in `text`, and each with its times in `segments`. A mixed or padded cut, and one whose audio is changed
    when it is read, costs its record.

    Args:
        path: the file of cuts, a pattern, or several; or the folder of a Shar.
        relative_to: the folder that relative paths of recordings start from; empty: that of each file.
    """

    name = "read_lhotse"

    expects = "Lhotse cuts"

    path: str | Path | Sequence[str | Path]
    relative_to: str | Path = ""

    def row_files(self) -> Sequence[Path]:
        files: list[Path] = []
        for one in listed_paths(self.path):
            if Path(one).is_dir():
                cuts = sorted(Path(one).glob("cuts.*.jsonl*")) or sorted(Path(one).glob("*cuts*.jsonl*"))
                if not cuts:
                    raise PlanError(f"{one} has no files of cuts (cuts.*.jsonl.gz)")
                files += cuts
            else:
                files += matching_files(one)
        return files

    def given(self) -> Collection[str]:
        return listed_paths(self.path)

    @property
    def described_input(self) -> str:
        return str(self.path)

    def roots_of(self, path: Path) -> list[Path]:
        return root_paths(self.roots) if self.roots else [Path(self.relative_to or path.parent)]

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        for number, row in read_rows(path, after=after):
            yield number, row if isinstance(row, RecordError) else self._record(row, path)

    def _record(self, cut: Record, path: Path) -> Record | RecordError:
        recording: Any = cut.get("recording")
        if "sources" in cut or ("recording_id" in cut and "recording" not in cut):
            kind = "recording" if "sources" in cut else "supervision"
            return RecordError(
                "bad_row", f"the row is a {kind} and not a cut; join both with lhotse's CutSet.from_manifests(...)"
            )
        if cut.get("type", "MonoCut") not in ("MonoCut", "MultiCut") or not isinstance(recording, dict):
            kind = f"a {cut.get('type', 'cut')!s:.40} without one recording of its own"
            return RecordError("bad_row", f"{kind} is not read; save its audio with cuts.save_audios() or to_shar()")
        about = cast("dict[str, Any]", recording)
        place = self._place(cut, about, path)
        if isinstance(place, RecordError):
            return place
        record: Record = {self.filepath_key: place, "duration": cut.get("duration")}
        start = cut.get("start") or 0
        if start or _differs(cut.get("duration"), about.get("duration")):
            record["offset"] = start
        record |= {"utterance_id": cut.get("id"), "recording_id": about.get("id")}
        supervisions: Any = cut.get("supervisions") or []
        if not isinstance(supervisions, list) or not all(map(_is_supervision, cast("list[Any]", supervisions))):
            return RecordError("bad_row", "the cut's supervisions are not as Lhotse writes them")
        record |= _from_supervisions(cast("list[Mapping[str, Any]]", supervisions))
        channels: Any = cut.get("channel")
        if len(about.get("channel_ids") or ()) > 1 and isinstance(channels, int):
            record["channel"] = channels
        return {**{name: value for name, value in _custom_of(cut).items() if name not in _RESERVED}, **record}

    def _place(self, cut: Record, recording: Mapping[str, Any], path: Path) -> str | RecordError:
        """Return where the audio of a cut lies."""
        sources = cast("list[Any]", recording.get("sources") or [])
        source: Any = sources[0] if len(sources) == 1 else None
        if not isinstance(source, dict) or recording.get("transforms"):
            return RecordError(
                "bad_row",
                "the cut's recording has several sources, or is changed when it is read; save its audio with "
                "cuts.save_audios() or to_shar()",
            )
        about = cast("dict[str, Any]", source)
        kind, name = str(about.get("type")), about.get("source")
        if not isinstance(name, str) or (kind in ("file", "url") and not name):
            return RecordError("bad_row", "the cut's recording has a source without a place")
        if kind == "shar":
            tar = path.with_name(path.name.replace("cuts.", "recording.", 1).partition(".jsonl")[0] + ".tar")
            return f"{tar.absolute()}{SEPARATOR}{cut.get('id')}"
        if kind == "file":
            folder = Path(self.relative_to) if self.relative_to else path.parent
            return name if name.startswith("/") else str(folder.absolute() / name)
        if kind == "url":
            return name
        if kind == "memory":
            return RecordError(
                "bad_row", "the cut's recording is in the manifest itself; save it with cuts.to_shar() or save_audios()"
            )
        return RecordError(
            "bad_row", f"a recording from a {kind:.40} is not read, and nothing is executed; save it to a file"
        )


def _is_supervision(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    about = cast("dict[str, Any]", part)
    texts = (about.get(name) for name in ("text", *(old for old, _ in _OF_SUPERVISIONS)))
    times = (about.get(name) for name in ("start", "duration"))
    return all(text is None or isinstance(text, str) for text in texts) and all(
        time is None or (isinstance(time, int | float) and not isinstance(time, bool)) for time in times
    )


def _custom_of(part: Mapping[str, Any]) -> Record:
    """Return the custom fields of a cut or a supervision."""
    custom: Any = part.get("custom")
    return cast("Record", custom) if isinstance(custom, dict) else {}


def _differs(cut_s: Any, recording_s: Any) -> bool:
    if not isinstance(cut_s, int | float) or not isinstance(recording_s, int | float):
        return False
    return abs(cut_s - recording_s) > _TOLERANCE_S


def _from_supervisions(supervisions: Sequence[Mapping[str, Any]]) -> Record:
    record: Record = {}
    texts = [str(one["text"]) for one in supervisions if one.get("text") is not None]
    if texts:
        record["text"] = " ".join(texts)
    for old, new in _OF_SUPERVISIONS:
        values = list(dict.fromkeys(one[old] for one in supervisions if one.get(old) is not None))
        if len(values) == 1:
            record[new] = values[0]
    for one in supervisions if len(supervisions) == 1 else ():
        record = {**record, **{name: value for name, value in _custom_of(one).items() if name not in record}}
    if len(supervisions) > 1:
        record["segments"] = [_segment(one) for one in supervisions]
    return record


def _segment(supervision: Mapping[str, Any]) -> Record:
    start, duration = supervision.get("start") or 0, supervision.get("duration") or 0
    about = {new: supervision[old] for old, new in (("text", "text"), *_OF_SUPERVISIONS) if supervision.get(old)}
    return {"start": start, "end": round(start + duration, 6), **about}
