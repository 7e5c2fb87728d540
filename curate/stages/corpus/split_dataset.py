"""Divides a corpus into train, dev and test by groups, so that no speaker, text or recording is in two of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from curate.composite import CompositeStage
from curate.corpus import Decisions, KeyGather, KeyTable
from curate.corpus.key_table import quoted
from curate.corpus.row_writer import RowWriter
from curate.corpus.split_targets import SplitFiller, parse_targets
from curate.errors import InfrastructureError, PlanError
from curate.io import find_format, read_rows, replacing
from curate.records import Record, RecordReader, audio_ms
from curate.stage import Stage, Writer
from curate.stages.corpus.deduplicate import COMPARISONS, Comparison, file_digest, key_columns, packed_keys
from curate.stages.corpus.keys import AudioKeys, TextKeys


def _default_splits() -> dict[str, str]:
    return {"dev": "5%", "test": "5%"}


def _default_group() -> list[str]:
    return ["speaker"]


@dataclass
class SplitDataset(CompositeStage):
    """Divides the records into splits by groups, such as speakers; writes the column `split`, and a file of the groups.

    The groups are taken in the order of a hash of their key and `seed`, so that adding groups changes little. Each goes
    into the first split whose target it does not exceed; all others, and records without a key, are the rest. Then the
    splits are checked for leaks: where records of two splits have the same text or the same audio, the split that is
    listed first keeps them, and the others are filtered. A division that misses a target by more than `tolerance`, or
    whose leaks cost more than `max_dropped` of the audio, stops the run with the figures.

    Args:
        splits: name → target, a share of the audio (`5%`) or a length (`10h`, `30min`).
        rest: the split of everything else.
        group: the columns whose values make a group.
        seed: another number gives another division.
        previous: the file of groups of an earlier division: what it knows stays where it is. Parquet, JSON Lines or any
            other manifest, with the columns of `group` and `split`.
        publish: the file of groups that is written, Parquet; a relative path lies inside the run directory.
        text: how texts are compared in the search for leaks: `exact` after normalisation, `near`, or `none`.
        audio: how audio is compared: `exact` (decoded samples), `near` (acoustic fingerprints), or `none`.
        min_words: shorter texts are not compared.
        tolerance: the share of its target that a split may lack.
        max_dropped: the share of all audio that may be filtered because of leaks.
        normaliser: as for `WordErrorRate`.
        text_key: the column with the text.
        filepath_key: the column with the path of the audio.
    """

    splits: Mapping[str, str] = field(default_factory=_default_splits)
    rest: str = "train"
    group: Sequence[str] = field(default_factory=_default_group)
    seed: int = 0
    previous: str = ""
    publish: str = "splits.parquet"
    text: Comparison = "exact"
    audio: Comparison = "exact"
    min_words: int = 4
    tolerance: float = 0.1
    max_dropped: float = 0.1
    normaliser: str = "auto"
    text_key: str = "text"
    filepath_key: str = "audio_filepath"

    def check(self) -> None:
        targets = parse_targets(self.splits)
        if self.rest in {target.name for target in targets} or not self.rest:
            raise PlanError(f"rest={self.rest!r}: must be a name that splits does not have")
        if isinstance(self.group, str) or not self.group:
            raise PlanError(f"group={self.group!r:.80}: must be a list of columns, such as [speaker]")
        for name in ("text", "audio"):
            if getattr(self, name) not in COMPARISONS:
                raise PlanError(f"{name}={getattr(self, name)!r:.80}: choose from {', '.join(COMPARISONS)}")
        for name in ("tolerance", "max_dropped"):
            if not 0 <= getattr(self, name) <= 1:
                raise PlanError(f"{name}={getattr(self, name)!r}: must be a share, 0 to 1")
        if self.previous:
            file_digest(Path(self.previous))

    def decompose(self) -> Sequence[Stage]:
        stages: list[Stage] = []
        if self.text != "none":
            texts = TextKeys(self.text_key, self.normaliser, self.min_words, self.text == "near")
            stages.append(texts.with_(name="text_keys"))
        if self.audio != "none":
            stages.append(AudioKeys(self.audio == "near", self.filepath_key).with_(name="audio_keys"))
        assign = AssignSplits(
            dict(self.splits), self.rest, list(self.group), self.seed, self.previous, self.text, self.audio,
            self.tolerance, self.max_dropped,
        )  # fmt: skip
        stages.append(assign.with_(name="assign"))
        if self.publish:
            stages.append(WriteSplits(self.publish, list(self.group), self.previous).with_(name="publish"))
        return stages


def group_key(record: Record, columns: Sequence[str]) -> str | None:
    """Return the key of a record's group as JSON, each value as a string; None: one of the values is null."""
    values = [record.get(name) for name in columns]
    if any(value is None for value in values):
        return None
    return json.dumps([value if isinstance(value, str) else json.dumps(value) for value in values])


@dataclass
class AssignSplits(KeyGather):
    """Assigns groups to splits and filters what leaks; a part of `split_dataset`, with its settings."""

    splits: Mapping[str, str]
    rest: str
    group: Sequence[str]
    seed: int
    previous: str
    text: Comparison
    audio: Comparison
    tolerance: float
    max_dropped: float

    def fingerprint(self) -> Mapping[str, Any]:
        return {"previous_sha256": file_digest(Path(self.previous))} if self.previous else {}

    def for_sample(self) -> Self:
        shares = {name: target if "%" in target else "5%" for name, target in self.splits.items()}
        return self.with_(splits=shares, tolerance=1.0, max_dropped=1.0)

    def key_types(self) -> Mapping[str, str]:
        return {**key_columns(self.text, self.audio), "grp": "VARCHAR", "ms": "BIGINT"}

    def key_row(self, record: Record) -> Sequence[Any]:
        columns = list(key_columns(self.text, self.audio))
        return [*packed_keys(record, columns), group_key(record, self.group), audio_ms(record)]

    def reads(self) -> Collection[str]:
        return (*key_columns(self.text, self.audio), *self.group, "duration")

    def writes(self) -> Collection[str]:
        return ("split",)

    def dropped_keys(self) -> Collection[str]:
        return tuple(key_columns(self.text, self.audio))

    def decide(self, keys: KeyTable) -> Decisions:
        run = keys.connection.execute
        self._assign(keys)
        names = [*self.splits, self.rest]
        run("CREATE TABLE names (split VARCHAR, place INTEGER)")
        run(
            f"INSERT INTO names VALUES {', '.join('(?, ?)' for _ in names)}",
            [x for p in enumerate(names) for x in p[::-1]],
        )
        selected = ", ".join(
            ["position", *(f"{name} AS {name.removeprefix('dedup_')}" for name in self.dropped_keys())]
        )
        run(f"CREATE VIEW compared AS SELECT {selected} FROM keys")
        run(
            "CREATE TABLE placed AS SELECT position, ms, place, split FROM keys "
            "JOIN assigned USING (grp) JOIN names USING (split) UNION ALL "
            "SELECT position, ms, place, split FROM keys JOIN names ON split = ? WHERE grp IS NULL",
            [self.rest],
        )
        verdicts = ["NULL"]
        for kind, groups in self._groups(keys):
            # A record leaks if another with the same leader is in a split that is listed earlier
            run(
                f"CREATE TABLE {kind}_leaks AS SELECT position, first FROM placed JOIN {groups} USING (position) JOIN "
                f"(SELECT leader, min(place) AS first FROM placed JOIN {groups} USING (position) GROUP BY leader) "
                "USING (leader) WHERE place > first"
            )
            verdicts.insert(0, f"'{kind} of a record in ' || (SELECT split FROM names WHERE place = {kind}.first)")
        joins = " ".join(f"LEFT JOIN {kind}_leaks {kind} USING (position)" for kind in self._kinds())
        reject = f"coalesce({', '.join(verdicts)})"
        run(f"CREATE TABLE judged AS SELECT position, ms, split, {reject} AS reject FROM placed {joins}")
        self._check_dropped(keys)
        return Decisions("SELECT position, split, reject FROM judged", columns=("split",), rejects=True)

    def _kinds(self) -> list[str]:
        return [kind for kind, how in (("text", self.text), ("audio", self.audio)) if how != "none"]

    def _groups(self, keys: KeyTable) -> Iterator[tuple[str, str]]:
        from curate.corpus.audio_groups import group_audio
        from curate.corpus.text_groups import group_texts

        if self.text != "none":
            yield "text", group_texts(keys, "compared", near=self.text == "near")
        if self.audio != "none":
            yield "audio", group_audio(keys, "compared", near=self.audio == "near")

    def _assign(self, keys: KeyTable) -> None:
        """Make the table `assigned`: `grp`, `split`."""
        run, scratch = keys.connection.execute, keys.scratch
        run("CREATE TABLE groups AS SELECT grp, sum(ms)::BIGINT AS ms FROM keys WHERE grp IS NOT NULL GROUP BY grp")
        write_previous(scratch / "previous.parquet", self.previous, self.group)
        previous = quoted(scratch / "previous.parquet")
        twice = run(f"SELECT grp FROM read_parquet('{previous}') GROUP BY grp HAVING count(*) > 1 LIMIT 1").fetchone()
        if twice is not None:
            raise InfrastructureError(f"{self.name}: {self.previous} has the group {twice[0]} more than once")
        (total_ms,) = run("SELECT coalesce(sum(ms), 0)::BIGINT FROM keys").fetchone()
        if not total_ms:
            raise InfrastructureError(f"{self.name}: the records have no audio: `duration` is missing or 0")
        filler = SplitFiller(parse_targets(self.splits), self.rest, total_ms)
        query = (
            f"SELECT grp, ms, split FROM groups LEFT JOIN read_parquet('{previous}') USING (grp) "
            "ORDER BY split IS NULL, md5(? || grp), grp"
        )
        with RowWriter(scratch / "assigned.parquet", {"grp": "VARCHAR", "split": "VARCHAR"}) as file:
            for grp, ms, known in keys.rows(query, [f"{self.seed}:"]):
                file.append((grp, filler.assign(ms, known)))
        run(f"CREATE VIEW assigned AS SELECT * FROM read_parquet('{quoted(scratch / 'assigned.parquet')}')")
        (ungrouped_ms,) = run("SELECT coalesce(sum(ms), 0)::BIGINT FROM keys WHERE grp IS NULL").fetchone()
        if ungrouped_ms:
            filler.assign(ungrouped_ms, only_rest=True)
        shortfall = filler.shortfall(self.tolerance)
        if shortfall:
            raise InfrastructureError(
                f"{self.name}: {shortfall}. Ask for less, allow a larger tolerance than {self.tolerance:g}, or "
                "group by a column with more values"
            )

    def _check_dropped(self, keys: KeyTable) -> None:
        query = "SELECT sum(ms) FILTER (reject IS NOT NULL), sum(ms), count(reject) FROM judged"
        dropped_ms, total_ms, records = keys.connection.execute(query).fetchone()
        if records and dropped_ms > self.max_dropped * total_ms:
            raise InfrastructureError(
                f"{self.name}: {records} records with {dropped_ms / 3_600_000:.3f} of {total_ms / 3_600_000:.3f} hours "
                "have the text or audio of a record in another split, more than "
                f"max_dropped={self.max_dropped:g} allows. Where speakers read the same sentences, set text to 'none', "
                "or group by the sentence"
            )


def write_previous(path: Path, previous: str, group: Sequence[str]) -> None:
    """Write the groups of an earlier division to a Parquet file: `grp`, `split`.

    Raises:
        InfrastructureError: a row lacks a column, or a group is in two splits.
    """
    with RowWriter(path, {"grp": "VARCHAR", "split": "VARCHAR"}) as file:
        for grp, split in _previous_groups(previous, group) if previous else ():
            file.append((grp, split))


def _previous_groups(previous: str, group: Sequence[str]) -> Iterator[tuple[str, str]]:
    path = Path(previous)
    for number, row in read_rows(path, format=find_format(path)):
        grp = group_key(row, group) if isinstance(row, dict) else None
        split = row.get("split") if isinstance(row, dict) else None
        if grp is None or not isinstance(split, str):
            raise InfrastructureError(f"{previous}:{number} lacks {', '.join([*group, 'split'])}")
        yield grp, split


@dataclass
class WriteSplits(Writer):
    """Publishes the groups and their splits, with the number of records and the hours; a part of `split_dataset`.

    Groups of the previous division that have no records are written too, so that they keep their split.
    """

    path: str
    group: Sequence[str]
    previous: str

    def check(self) -> None:
        if not self.path.endswith(".parquet"):
            raise PlanError(f"publish={self.path!r}: must end in .parquet")

    def reads(self) -> Collection[str]:
        return (*self.group, "split")

    def outputs(self) -> Sequence[str]:
        return (self.path,)

    def write(self, records: RecordReader, directory: Path) -> list[Path]:
        scratch, path = directory / "scratch", directory / self.path
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            write_previous(scratch / "previous.parquet", self.previous, self.group)
            with RowWriter(scratch / "rows.parquet", {"grp": "VARCHAR", "split": "VARCHAR", "ms": "BIGINT"}) as file:
                for record in records:
                    grp = group_key(record, self.group)
                    if grp is not None:
                        file.append((grp, record["split"], audio_ms(record)))
            self._publish(scratch, path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return [path]

    def _publish(self, scratch: Path, path: Path) -> None:
        previous, rows = quoted(scratch / "previous.parquet"), quoted(scratch / "rows.parquet")
        query = (
            "SELECT grp, max(split), count(ms), coalesce(sum(ms), 0)::BIGINT FROM (SELECT grp, split, ms "
            f"FROM read_parquet('{rows}') UNION ALL SELECT grp, split, NULL FROM read_parquet('{previous}')) "
            "GROUP BY grp ORDER BY grp"
        )
        types = {**dict.fromkeys(self.group, "VARCHAR"), "split": "VARCHAR", "records": "BIGINT", "hours": "DOUBLE"}
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(KeyTable(scratch, {})) as keys, replacing(path) as target, RowWriter(target, types) as file:
            for grp, split, count, ms in keys.rows(query):
                file.append((*json.loads(grp), split, count, ms / 3_600_000))
