"""The books of a run: every record, and every millisecond of audio, is accounted for, in all and at each stage.

records in + children + joins = kept + filtered + quarantined + split parents + joined parts
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeAlias

from curate.engine.protocol.messages import Filtered, JoinedPart, NewFile, OutputRow, Quarantined, Split
from curate.errors import AccountingError
from curate.io.rows import decode_row
from curate.records import audio_ms


@dataclass(slots=True)
class RecordCounts:
    """Counts of records and of their audio in milliseconds (integers, so that sums are exact in any order).

    Args:
        children: the records that split parents became.
        joins: the records that were made by joining parts; `joined` counts the parts.
    """

    records_in: int = 0
    children: int = 0
    kept: int = 0
    filtered: int = 0
    quarantined: int = 0
    split: int = 0
    joins: int = 0
    joined: int = 0
    in_ms: int = 0
    children_ms: int = 0
    kept_ms: int = 0
    filtered_ms: int = 0
    quarantined_ms: int = 0
    split_ms: int = 0
    joins_ms: int = 0
    joined_ms: int = 0

    def add(self, other: RecordCounts) -> None:
        """Add another's counts to these."""
        for name in _NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def processed(self) -> int:
        """Records that stages were given, or would have been: a split one counts as its parts, joined parts as one."""
        return self.records_in + self.children - self.split + self.joins - self.joined

    @property
    def measured_ms(self) -> int:
        """Audio whose length was not known when it came in, or was corrected by a stage that measures it."""
        out_ms = self.kept_ms + self.filtered_ms + self.quarantined_ms + self.split_ms + self.joined_ms
        return out_ms - self.in_ms - self.children_ms - self.joins_ms

    def subtract(self, other: RecordCounts) -> None:
        """Take another's counts from these."""
        for name in _NAMES:
            setattr(self, name, getattr(self, name) - getattr(other, name))

    def check(self, *, measures_audio: bool) -> None:
        """Check the identity.

        Args:
            measures_audio: whether a stage says that it writes `duration`, or does not declare its columns.

        Raises:
            AccountingError: the books do not balance.
        """
        into = self.records_in + self.children + self.joins
        out = self.kept + self.filtered + self.quarantined + self.split + self.joined
        if into != out:
            raise AccountingError(
                f"the books do not balance: {self.records_in} in + {self.children} children + {self.joins} joins != "
                f"{self.kept} kept + {self.filtered} filtered + {self.quarantined} quarantined + {self.split} split "
                f"parents + {self.joined} joined parts ({out - into:+d}); do not trust the run directory"
            )
        if self.measured_ms and not measures_audio:
            raise AccountingError(
                f"the audio does not balance by {self.measured_ms / 1000:+.3f} s although no stage writes 'duration': "
                "a stage changes it without saying so in writes()"
            )


_NAMES = tuple(field.name for field in fields(RecordCounts))


@dataclass(slots=True)
class FinishedInputs:
    """Roots of a phase with everything that became of them, ready to be committed.

    Args:
        seqs: the roots' positions in the phase's input.
        rows: what is kept, and `row_seqs[i]`, the position of the root that `rows[i]` descends from.
        joined: roots that were joined to a new record. It is a root itself, which these count out of the records in.
        ids: the roots' ids.
        each_ms: the roots' audio, which `in_ms` is the sum of.
    """

    seqs: Sequence[int]
    rows: list[OutputRow]
    row_seqs: Sequence[int]
    in_ms: int
    kept_ms: int
    filtered: list[tuple[int, Filtered]] = field(default_factory=list[tuple[int, Filtered]])
    quarantined: list[tuple[int, Quarantined]] = field(default_factory=list[tuple[int, Quarantined]])
    splits: list[Split] = field(default_factory=list[Split])
    joined: list[tuple[int, JoinedPart]] = field(default_factory=list[tuple[int, JoinedPart]])
    files: list[tuple[int, NewFile]] = field(default_factory=list[tuple[int, NewFile]])
    ids: Sequence[str] = ()
    each_ms: Sequence[int] = ()

    def roots(self, wanted: Collection[int]) -> dict[int, FinishedInputs]:
        """Return the outcomes of single roots, by position."""
        found: dict[int, FinishedInputs] = {}
        seq_of: dict[str, int] = {}
        for seq, identity, in_ms in zip(self.seqs, self.ids, self.each_ms, strict=True):
            if seq in wanted:
                found[seq] = FinishedInputs([seq], [], [], in_ms, 0, ids=[identity], each_ms=[in_ms])
                seq_of[identity] = seq
        for seq, row in zip(self.row_seqs, self.rows, strict=True):
            if seq in wanted:
                root = found[seq]
                root.rows.append(row)
                root.row_seqs = [seq] * len(root.rows)
                root.kept_ms += audio_ms(decode_row(row) if isinstance(row, bytes) else row)
        for kind in ("filtered", "quarantined", "joined", "files"):
            for pair in getattr(self, kind):
                if pair[0] in wanted:
                    getattr(found[pair[0]], kind).append(pair)
        for split in self.splits:
            identity = split.root  # of the root, or of a descendant of it that was split in a later hop
            while identity and identity not in seq_of:
                identity = identity.rpartition("/")[0]
            if identity:
                found[seq_of[identity]].splits.append(split)
        return found

    @property
    def is_plain(self) -> bool:
        """Whether all of these roots are kept."""
        return not (self.filtered or self.quarantined or self.splits or self.joined)

    def books(self) -> RecordCounts:
        """Return the contribution of these roots to the books."""
        joins = sum(note.joins for _, note in self.joined)
        joins_ms = sum(note.joins_ms for _, note in self.joined)
        return RecordCounts(
            records_in=len(self.seqs) - joins,
            children=sum(split.children for split in self.splits),
            kept=len(self.rows),
            filtered=len(self.filtered),
            quarantined=len(self.quarantined),
            split=len(self.splits),
            joins=joins,
            joined=len(self.joined),
            in_ms=self.in_ms - joins_ms,
            children_ms=sum(split.children_ms for split in self.splits),
            kept_ms=self.kept_ms,
            filtered_ms=sum(audio_ms(note.record) for _, note in self.filtered),
            quarantined_ms=sum(audio_ms(note.record) for _, note in self.quarantined),
            split_ms=sum(split.parent_ms for split in self.splits),
            joins_ms=joins_ms,
            joined_ms=sum(audio_ms(note.record) for _, note in self.joined),
        )


def sum_counts(settled: Iterable[FinishedInputs]) -> RecordCounts:
    """Return the contribution of settled roots to the books; most are only kept, and quickly added."""
    total = RecordCounts()
    records_in = kept = in_ms = kept_ms = 0
    for each in settled:
        if each.is_plain:
            records_in += len(each.seqs)
            kept += len(each.rows)
            in_ms += each.in_ms
            kept_ms += each.kept_ms
        else:
            total.add(each.books())
    total.add(RecordCounts(records_in, kept=kept, in_ms=in_ms, kept_ms=kept_ms))
    return total


def stage_counts(settled: FinishedInputs) -> dict[str, dict[str, int]]:
    """Return the contribution of settled roots to the counts of each stage, as `StageFlow` names them."""
    counts: dict[str, dict[str, int]] = {}

    def count(stage: str, what: str, amount: int = 1) -> None:
        of_stage = counts.setdefault(stage, {})
        of_stage[what] = of_stage.get(what, 0) + amount

    for _, note in settled.filtered:
        count(note.stage, "filtered")
    for _, note in settled.quarantined:
        count(note.stage, "quarantined")
    for split in settled.splits:
        count(split.stage, "split")
        count(split.stage, "children", split.children)
    for _, note in settled.joined:
        count(note.stage, "joined")
        count(note.stage, "joins", note.joins)
    return counts


StageCounts: TypeAlias = "Mapping[str, Mapping[str, int]]"
"""Stage → name of a count of `StageFlow` → number of records; what is not named is 0."""


@dataclass(frozen=True, slots=True)
class StageFlow:
    """The records that reached a stage, and their outcomes there.

    Args:
        records_out: the records that the stage handed on.
        split: the records that became `children`.
        joined: the parts that became `joins`.
    """

    name: str
    records_in: int
    records_out: int
    filtered: int
    quarantined: int
    split: int
    children: int
    joined: int
    joins: int


def add_stage_counts(total: dict[str, dict[str, int]], part: StageCounts) -> None:
    """Add counts to `total`, stage by stage."""
    for stage, counts in part.items():
        of_stage = total.setdefault(stage, {})
        for name, amount in counts.items():
            of_stage[name] = of_stage.get(name, 0) + amount


def follow_stages(stages: Iterable[str], records_in: int, parts: Iterable[StageCounts]) -> list[StageFlow]:
    """Return the flow through each stage of a phase.

    What a stage hands on is what the next one gets, so the counts of who left where determine everything else.

    Args:
        stages: their names, in order.
        records_in: the number of records that reached the first one.
        parts: counts that are added up, such as those of the phase's commits.
    """
    counts: dict[str, dict[str, int]] = {}
    for part in parts:
        add_stage_counts(counts, part)
    flows: list[StageFlow] = []
    for name in stages:
        own = counts.get(name, {})
        filtered, quarantined, split, children, joined, joins = (
            own.get(what, 0) for what in ("filtered", "quarantined", "split", "children", "joined", "joins")
        )
        records_out = records_in - filtered - quarantined - split - joined + children + joins
        flows.append(StageFlow(name, records_in, records_out, filtered, quarantined, split, children, joined, joins))
        records_in = records_out
    return flows
