"""Ways to damage a run directory, and a pipeline whose work on each record can be counted."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attrs

from curate import AudioStage, InfrastructureError, Pipeline, RecordError, RecordStage, Reject
from curate.audio import Audio
from curate.engine import RunOptions
from curate.engine.durability.commit_file import seal, unseal
from curate.records import Record
from curate.stages import Merge, Partition, ReadManifest
from curate.testing.audio import write_tone

COUNT = 48
STOP_AT = 30


def _note(log: str, name: str, record: Record) -> None:
    with Path(log).open("ab", buffering=0) as file:
        file.write(f"{name} {record['_id']}\n".encode())


@dataclass
class Softer(AudioStage):
    """Writes new audio; drops some records and fails on others."""

    log: str

    tuning = frozenset({"log"})
    cardinality = "filters"

    def writes(self) -> tuple[str, ...]:
        return ("duration",)

    def process_audio(self, record: Record, audio: Audio) -> Record | Reject:
        _note(self.log, "softer", record)
        if record["number"] % 7 == 3:
            return Reject("dropped")
        if record["number"] % 11 == 5:
            raise RecordError("truncated", "broken")
        return self.context.new_audio(record, 0.5 * audio.native(), audio.rate_hz)


@dataclass
class Splits(RecordStage):
    """Makes one or two records of each; fails on some, and stops the run while the file `stop` exists."""

    log: str
    stop: str

    tuning = frozenset({"log", "stop"})
    cardinality = "splits"

    def writes(self) -> tuple[str, ...]:
        return ("part",)

    def process_record(self, record: Record) -> Any:
        if record["number"] >= STOP_AT and Path(self.stop).exists():
            raise InfrastructureError("stopped by the test")
        _note(self.log, "splits", record)
        if record["number"] % 13 == 7:
            raise RecordError("bad_value", "refused")
        return [{**record, "part": part} for part in range(1 + record["number"] % 2)]


@dataclass
class Drops(RecordStage):
    """Drops some records."""

    log: str

    tuning = frozenset({"log"})
    cardinality = "filters"

    def writes(self) -> tuple[str, ...]:
        return ()

    def process_record(self, record: Record) -> Any:
        _note(self.log, "drops", record)
        return Reject("odd one") if record["number"] % 5 == 2 else record


def write_manifest(folder: Path) -> Path:
    """Write short recordings and their manifest."""
    lines = [
        json.dumps(
            {
                "audio_filepath": str(write_tone(folder / f"{number}.wav", 0.05, rate_hz=8000, hz=200 + number)),
                "duration": 0.05,
                "number": number,
                "text": f"utterance {number}",
            }
        )
        for number in range(COUNT)
    ]
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def pipeline(manifest: Path, log: Path) -> Pipeline:
    stages = [
        ReadManifest(manifest),
        Partition(max_records=6, by_length=False),
        Softer(str(log)).with_(checkpoint=True, workers=2),
        Partition(max_records=6, by_length=False).with_(name="cut_again"),
        Splits(str(log), str(manifest.with_name("stop"))).with_(checkpoint=True),
        Drops(str(log)),
        Merge("out.jsonl"),
    ]
    return Pipeline("damage", stages)


def run(executor: str, run_dir: Path, manifest: Path, log: Path) -> None:
    """Run the pipeline in this process, with small commit units."""
    options = RunOptions(unit_bytes=3000)
    pipeline(manifest, log).run(executor, run_dir=run_dir, max_failures=COUNT, options=options)


def worked_on(log: Path) -> Counter[str]:
    """Return how often each stage has worked on each record."""
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def results(run_dir: Path) -> dict[str, Any]:
    """Return what damage must not change: the published bytes, new audio, the books, the notes about records."""
    from curate.engine import RunReader

    summary = json.loads((run_dir / "summary.json").read_bytes())
    reader = RunReader(run_dir)
    return {
        "out": (run_dir / "out.jsonl").read_bytes(),
        "audio": {path.name: path.read_bytes() for path in sorted((run_dir / "audio").rglob("*.flac"))},
        "books": {name: summary[name] for name in ("records_in", "children", "kept", "filtered", "quarantined")},
        "stages": {
            name: {each: count for each, count in counts.items() if each not in ("busy_s", "performance")}
            for name, counts in summary["by_stage"].items()
        },
        "filtered": sorted((note["_id"], note["stage"], note["reason"]) for note in reader.filtered()),
        "failed": sorted((note["_id"], note["stage"], note["code"]) for note in reader.failed()),
        "status": str(reader.status),
    }


def ids_to_process(before: Path, after: Path) -> set[str]:
    """Return the records that the damage to a run directory may cost.

    Args:
        before: a copy of the run directory without damage.
        after: the damaged one.
    """
    files = {path.relative_to(before) for path in before.rglob("*") if path.is_file()}
    damaged = {path for path in files if not (after / path).is_file() or _differ(before / path, after / path)}
    ids: set[str] = set()
    for path in damaged:
        kept, others = _ids_in(before, "data", path.stem), _ids_in(before, "filtered", path.stem)
        failed = _ids_in(before, "quarantine", path.stem)
        if path.parts[0] in ("data", "commits"):
            ids |= kept | others | failed
        elif path.parts[0] == "filtered":  # those of which there are no rows
            ids |= (others | failed) - kept
        elif path.parts[0] == "quarantine":
            ids |= failed
        elif path.parts[0] == "audio":
            rows = (row for unit in (before / "data").glob("p0-*.jsonl") for row in _rows(unit))
            ids |= {row["_id"] for row in rows if str(row["audio_filepath"]).endswith(path.name)}
    return ids


def _differ(one: Path, other: Path) -> bool:
    return one.read_bytes() != other.read_bytes()


def _ids_in(run_dir: Path, kind: str, unit: str) -> set[str]:
    path = run_dir / kind / f"{unit}.jsonl"
    return {root_of(row["_id"]) for row in _rows(path)} if path.is_file() else set()


def root_of(identity: str) -> str:
    """Return the id of a record's line in the manifest."""
    return re.sub(r"(:\d+)(/\d+)+$", r"\1", identity)


def _rows(path: Path) -> Iterator[Record]:
    return map(json.loads, path.read_bytes().splitlines())


def command_in(message: str) -> list[str]:
    """Return the arguments of the `curate` command that a message has on a line of its own."""
    (line,) = [line for line in message.splitlines() if line.strip().startswith("curate repair ")]
    return shlex.split(line)[1:]


@attrs.frozen
class Kind:
    """A kind of damage.

    Args:
        name: its name.
        inflict: damages a run directory.
        named: part of the file's name in the message; "" if the damage costs nothing, and nothing is reported.
        stops: whether the run stops for it; otherwise it warns and resumes.
        redone: the names of stages that may work again, on the records of one unit each.
    """

    name: str
    inflict: Callable[[Path], None]
    named: str
    stops: bool = True
    redone: frozenset[str] = frozenset()


def _units(run_dir: Path, phase: int, kind: str) -> list[Path]:
    return sorted((run_dir / kind).glob(f"p{phase}-*.jsonl"))


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"{}\n")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _foreign(path: Path) -> None:
    path.write_bytes(seal({**unseal(path.read_bytes()), "fingerprint": "0" * 16}))


def _to_unit(phase: int, kind: str, damage: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda run_dir: damage(_units(run_dir, phase, kind)[0])


def _to_commit(phase: int, damage: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda run_dir: damage(sorted((run_dir / "commits").glob(f"p{phase}-*.json"))[0])


def _to_commit_and_copy(phase: int, damage: Callable[[Path], None], *, data: bool = False) -> Callable[[Path], None]:
    def inflict(run_dir: Path) -> None:
        path = sorted((run_dir / "commits").glob(f"p{phase}-*.json"))[0]
        damage(path)
        damage(run_dir / "copies" / path.name)
        if data:
            (run_dir / "data" / f"{path.stem}.jsonl").unlink()

    return inflict


def _to_audio(damage: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda run_dir: damage(sorted((run_dir / "audio").rglob("*.flac"))[0])


def _to_run_json(damage: Callable[[Path], None], *, copy: bool = False) -> Callable[[Path], None]:
    def inflict(run_dir: Path) -> None:
        damage(run_dir / "run.json")
        if copy:
            damage(run_dir / "copies" / "run.json")

    return inflict


def _to_lock(content: bytes) -> Callable[[Path], None]:
    def inflict(run_dir: Path) -> None:
        (path,) = run_dir.glob("driver-*.json")
        path.write_bytes(content)

    return inflict


def _without(name: str) -> Callable[[Path], None]:
    def inflict(run_dir: Path) -> None:
        for path in sorted((run_dir / name).rglob("*"), reverse=True):
            path.unlink()
        (run_dir / name).rmdir()

    return inflict


def _kinds() -> Iterator[Kind]:
    first, second = frozenset({"softer"}), frozenset({"splits"})
    for name, damage in (("flipped", _flip), ("cut", _cut), ("empty", _empty), ("extended", _extend)):
        yield Kind(f"data-{name}", _to_unit(0, "data", damage), "data/p0-", redone=first)
    yield Kind("data-missing", _to_unit(0, "data", Path.unlink), "data/p0-", redone=first)
    yield Kind("data-folder", _to_unit(0, "data", _folder), "data/p0-", redone=first)
    yield Kind("data-later-flipped", _to_unit(1, "data", _flip), "data/p1-", redone=second)
    yield Kind("data-later-missing", _to_unit(1, "data", Path.unlink), "data/p1-", redone=second)
    for name, damage in (("flipped", _flip), ("cut", _cut), ("missing", Path.unlink)):
        yield Kind(f"filtered-{name}", _to_unit(0, "filtered", damage), "filtered/p0-", redone=first)
        yield Kind(f"quarantine-{name}", _to_unit(0, "quarantine", damage), "quarantine/p0-", redone=first)
    yield Kind("audio-missing", _to_audio(Path.unlink), "audio/", redone=first)
    yield Kind("audio-cut", _to_audio(_cut), "audio/", redone=first)
    for name, damage in (("flipped", _flip), ("cut", _cut), ("missing", Path.unlink), ("foreign", _foreign)):
        yield Kind(f"commit-{name}", _to_commit(0, damage), "commits/p0-")
    yield Kind("commit-and-copy", _to_commit_and_copy(0, _flip), "commits/p0-", redone=first)
    yield Kind("commits-folder", _without("commits"), "commits/p0-")
    yield Kind("copies-folder", _without("copies"), "", stops=False)
    for name, damage in (("missing", Path.unlink), ("cut", _cut), ("flipped", _flip)):
        yield Kind(f"run-json-{name}", _to_run_json(damage), "run.json", stops=False)
    yield Kind("run-json-and-copy", _to_run_json(_cut, copy=True), "run.json", stops=False)
    yield Kind("lock-garbage", _to_lock(b"\x00garbage\xff"), "driver-")
    yield Kind("lock-empty", _to_lock(b""), "driver-")


KINDS = tuple(_kinds())
