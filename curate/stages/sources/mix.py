"""The source that mixes several others, in proportion to weights in hours."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from loguru import logger

from curate.audio import ASSUMED_DURATION_S
from curate.errors import InfrastructureError, PlanError, RunDirectoryError
from curate.io import read_rows
from curate.records import ID, Failed, Record
from curate.resolution import PluginLookup
from curate.stage import Source
from curate.stages.sources.fragments import FragmentReader, ReadAhead
from curate.stages.sources.mixture import HoursDraw, hours_weights, normalised
from curate.storage import RemotePath

_HOUR_S = 3_600.0
_MOST_NAMED = 5
_REMOTE_THREADS = 4


@dataclass
class MixReader(Source):
    """Reads several inputs of any kinds as one, in proportion to weights in hours of audio.

    Without weights the inputs follow one another. With weights the next record is drawn at random, with a seed, and the
    draws are corrected by the hours that each input is owed: its share of the hours never depends on how long its
    records are. The order follows from the settings and the inputs, never from the threads that read ahead.

    An input is a partition. Its name is its `dataset_name`; where several inputs have the same one, it is
    `<dataset_name>/<lang>`.

    Args:
        sources: readers, each with a `dataset_name`, and `lang` where the languages of a corpus are weighed.
        weights: partition → its share of the hours, in any unit; none may be missing.
        hours: partition → the hours from which weights are made, or a table with the columns `corpus`, `language` and
            `hours`; none may be missing. By default they are summed over the column `duration`.
        beta_corpus: weights from hours: the power of a corpus's share of all hours; 1 is in proportion, 0 equal.
        beta_language: the power of a language's share of its corpus; the same as `beta_corpus` by default.
        stop: `all`: when every input has been read to its end (one that ends leaves its share to the others); `first`:
            when the first one ends; `{hours: 500}`: after these hours. An input that ends earlier is then read again,
            and its records have the ids `<id>#2`, `<id>#3` and so on.
        seed: another number gives another order.
        max_workers: the threads that read ahead; None: 4 where an input lies behind a URL, and none where all are
            files, which are read faster without.
        prefetch: the fragments that are read ahead of each input.
    """

    name = "mix"

    sources: Sequence[Source]
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    hours: str | Mapping[str, float] = field(default_factory=dict[str, float])
    beta_corpus: float | None = None
    beta_language: float | None = None
    stop: str | Mapping[str, float] = "all"
    seed: int = 0
    max_workers: int | None = None
    prefetch: int = 1

    listing_may_grow = False

    tuning = frozenset({"max_workers", "prefetch"})

    def resolve(self, host: PluginLookup) -> Self:
        return self.with_(sources=[source.resolve(host) for source in self.sources])

    # ---------------------------------------------------------------- the plan

    def check(self) -> None:
        self._check_settings()
        names = self.partitions()
        for name, source in zip(names, self.sources, strict=True):
            try:
                source.check()
            except PlanError as error:
                raise PlanError(f"{name}: {error}") from error
            if self._is_weighed:
                columns = source.record_columns()
                if columns is not None and "duration" not in columns:
                    raise PlanError(
                        f"{name}: weights are in hours, and its records have no `duration`; write a manifest with "
                        "`audio_duration` first"
                    )
        twice = [path for path, count in Counter(map(str, self.inputs())).items() if count > 1]
        if twice:
            raise PlanError(f"{twice[0]} is an input of two sources: its records would have the same ids")
        if self.weights:
            _check_table("weights", self.weights, names)
        elif self.hours:
            _check_table("hours", self._hours_table(), names)

    def _check_settings(self) -> None:
        if isinstance(self.sources, Source) or not self.sources:
            raise PlanError("sources must be a list of readers, with at least one")
        for source in cast("Sequence[object]", self.sources):
            if not isinstance(source, Source):
                kind = getattr(source, "name", type(source).__name__)
                raise PlanError(f"{kind} is not a source; mix a manifest that it has written")
        self._check_weighing()
        for name in ("max_workers", "prefetch"):
            if (getattr(self, name) or 0) < 0:
                raise PlanError(f"{name}={getattr(self, name)}: must be at least 0")

    def _check_weighing(self) -> None:
        if self._beta is None and (self.hours or self.beta_language is not None):
            raise PlanError("hours and beta_language need beta_corpus, such as 0.5")
        if self.weights and self._beta is not None:
            raise PlanError("weights and beta_corpus both set the shares: choose one")
        for name in ("beta_corpus", "beta_language"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise PlanError(f"{name}={value!r}: must be between 0 and 1")
        if self.stop not in ("all", "first") and self._stop_s is None:
            raise PlanError(f"stop={self.stop!r:.80}: must be all, first, or {{hours: 500}}")
        if self.stop != "all" and not self._is_weighed:
            raise PlanError(f"stop={self.stop!r:.80} needs weights or beta_corpus: without them the inputs are joined")

    @property
    def _beta(self) -> tuple[float, float] | None:
        if self.beta_corpus is None:
            return None
        return self.beta_corpus, self.beta_corpus if self.beta_language is None else self.beta_language

    @property
    def _is_weighed(self) -> bool:
        return bool(self.weights) or self._beta is not None

    @property
    def _stop_s(self) -> float | None:
        """The seconds after which the mixture ends; None: it does not end by them."""
        if isinstance(self.stop, str) or set(self.stop) != {"hours"}:
            return None
        hours: Any = self.stop["hours"]
        usable = isinstance(hours, int | float) and not isinstance(hours, bool) and 0 < hours < math.inf
        return hours * _HOUR_S if usable else None

    def partitions(self) -> list[str]:
        """Return the names of the partitions, in the order of the sources.

        Raises:
            PlanError: two have the same name.
        """
        keys = [_key_of(source) for source in self.sources]
        shared = Counter(corpus for corpus, _ in keys)
        names = [f"{corpus}/{lang}" if shared[corpus] > 1 and lang else corpus for corpus, lang in keys]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise PlanError(
                f"two sources have the name {twice[0]!r}: give each a `dataset_name`, or a `lang`, of its own"
            )
        return names

    def _hours_table(self) -> dict[str, float]:
        """Return the hours of each partition as the setting has them."""
        if not isinstance(self.hours, str):
            return dict(self.hours)
        keys, names = [_key_of(source) for source in self.sources], self.partitions()
        by_key = dict(zip(keys, names, strict=True))
        by_corpus = {corpus: name for (corpus, _), name in by_key.items()}
        found: dict[str, float] = {}
        try:
            rows = [row for _, row in read_rows(Path(self.hours), after=0)]
        except OSError as error:
            raise PlanError(f"hours: cannot read {self.hours}: {error.strerror or error}") from error
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict) or not {"corpus", "hours"} <= row.keys():
                raise PlanError(f"hours: row {number} of {self.hours} lacks the columns corpus, language and hours")
            corpus, lang = str(row["corpus"]), str(row.get("language") or "")
            name = by_key.get((corpus, lang)) or (by_corpus.get(corpus) if (corpus, "") in by_key else None)
            try:
                found[name or f"{corpus}/{lang}"] = float(row["hours"])
            except (TypeError, ValueError):
                raise PlanError(f"hours: row {number} of {self.hours} has hours={row['hours']!r:.80}") from None
        return {name: hours for name, hours in found.items() if name in names}  # a table may know more corpora

    def fingerprint(self) -> Mapping[str, Any]:
        table = {"hours_table": self._hours_table()} if isinstance(self.hours, str) and self.hours else {}
        return {**table, "sources": [{"class": type(each).__name__, **each.fingerprint()} for each in self.sources]}

    def inputs(self) -> Sequence[Path]:
        return [path for source in self.sources for path in source.inputs()]

    @property
    def lists(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(source.lists for source in self.sources)

    def listing(self) -> Iterator[str] | None:
        listings = [source.listing() for source in self.sources]
        if all(names is None for names in listings):
            return None
        return (f"{place}:{name}" for place, names in enumerate(listings) for name in names or ())

    def use_listing(self, names: Iterable[str] | None) -> None:
        for place, source in enumerate(self.sources):
            if names is None or source.listing() is not None:
                source.use_listing(None if names is None else _NamesOfSource(names, f"{place}:"))

    def can_grow(self, path: Path) -> bool:
        raise RunDirectoryError(
            "--grown: a mixture draws from all its inputs, so more lines change its order; use a new --run-dir"
        )

    def count(self) -> int | None:
        if self.stop != "all":
            return None
        counts = [source.count() for source in self.sources]
        return None if None in counts else sum(filter(None, counts))

    def record_columns(self) -> Collection[str] | None:
        columns = [source.record_columns() for source in self.sources]
        if any(each is None for each in columns):
            return None
        return {name for each in columns for name in each or ()} | {"dataset_name"}

    def audio_roots(self) -> tuple[str, ...] | None:
        roots = [source.audio_roots() for source in self.sources]
        if any(each is None for each in roots):
            return None
        return tuple(dict.fromkeys(root for each in roots for root in each or ()))

    # ---------------------------------------------------------------- the records

    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        return self._mixed() if after is None else self._mixed_after(after)

    def _mixed_after(self, after: str) -> Iterator[Record | Failed]:
        items = self._mixed()
        for item in items:
            if (item.record if isinstance(item, Failed) else item)[ID] == after:
                yield from items
                return
        raise PlanError(f"unknown record {after!r}: it is not in the mixture")

    def describe_reading(self) -> Mapping[str, Any]:
        """Return the realised table: for each partition the records, the hours, their share, and the share wanted.

        In a run that was resumed after its last record was read, the inputs are read once more for it.
        """
        realised = getattr(self, "_realised", None)
        if realised is None:
            for _ in self._mixed():
                pass
            realised = self._realised
        return {"partitions": realised}

    def _mixed(self) -> Iterator[Record | Failed]:
        names = self.partitions()
        weights = self._shares(names) if self._is_weighed else None
        tally = _Tally([_key_of(source)[0] for source in self.sources])
        with ExitStack() as stack:
            wanted = self._remote_threads() if self.max_workers is None else self.max_workers
            threads = ReadAhead(min(wanted, len(names))) if wanted and self.prefetch else None
            readers = [
                FragmentReader(
                    source, threads, prefetch=self.prefetch, partitions=len(names), repeats=self._stop_s is not None
                )
                for source in self.sources
            ]
            for reader in readers:
                stack.enter_context(closing(reader))
            if threads is not None:
                stack.callback(threads.close)  # before the readers are closed
            yield from _joined(readers, tally) if weights is None else self._drawn(readers, weights, tally)
        self._note(names, weights, tally)

    def _remote_threads(self) -> int:
        return _REMOTE_THREADS if any(isinstance(path, RemotePath) for path in self.inputs()) else 0

    def _drawn(
        self, readers: Sequence[FragmentReader], weights: Sequence[float], tally: _Tally
    ) -> Iterator[Record | Failed]:
        draw, total_s, stop_s = HoursDraw(weights, self.seed), 0.0, self._stop_s or math.inf
        fragments: list[Iterator[Record | Failed]] = [iter(()) for _ in readers]
        count, taken_s, records = tally.count, draw.taken_s, draw.records
        while not draw.has_ended:
            for place in draw.block():
                item = next(fragments[place], None)
                if item is None:
                    fragments[place] = readers[place].next_fragment()
                    item = next(fragments[place], None)
                if item is None:
                    if self.stop == "first":
                        return
                    if self._stop_s is not None:
                        raise InfrastructureError(f"{self.partitions()[place]} has no records to repeat")
                    draw.end(place)
                    break  # the other draws of the block are of shares that no longer hold
                if isinstance(item, dict):
                    duration_s = count(place, item)
                    taken_s[place] += duration_s
                    total_s += duration_s
                records[place] += 1
                yield item
                if total_s >= stop_s:
                    return

    def _shares(self, names: Sequence[str]) -> list[float]:
        """Return the share of each partition."""
        if self.weights:
            shares = normalised(self.weights)
            return [shares[name] for name in names]
        beta = self._beta
        assert beta is not None
        hours = self._hours_table() or self._summed(names)
        keys = {name: _key_of(source) for name, source in zip(names, self.sources, strict=True)}
        found = hours_weights({keys[name]: hours[name] for name in names}, *beta)
        return [found[keys[name]] for name in names]

    def _summed(self, names: Sequence[str]) -> dict[str, float]:
        """Return the hours of each partition, summed over its records."""
        found = {
            name: sum(map(_seconds, source.read())) / _HOUR_S for name, source in zip(names, self.sources, strict=True)
        }
        empty = [name for name, hours in found.items() if not hours]
        if empty:
            raise InfrastructureError(f"{empty[0]} has no records, so it has no hours to weigh")
        return found

    def _note(
        self,
        names: Sequence[str],
        weights: Sequence[float] | None,
        tally: _Tally,
    ) -> None:
        records, seconds, passes = tally.records, tally.seconds, tally.passes()
        total = sum(seconds) or 1.0
        self._realised = {
            name: {
                "records": records[place],
                "hours": round(seconds[place] / _HOUR_S, 4),
                "share": round(seconds[place] / total, 6),
                "wanted": None if weights is None else round(weights[place], 6),
                "passes": passes[place] if self._stop_s is not None else 1,
            }
            for place, name in enumerate(names)
        }
        repeated = [name for name, row in self._realised.items() if cast("int", row["passes"]) > 1]
        if repeated:
            logger.warning("{} of {} inputs were read more than once: {}", len(repeated), len(names), _some(repeated))
        if self.stop == "first":
            logger.warning("the mixture ended with the first input that did; the records behind are left out")


class _NamesOfSource:
    """The names in a mixture's listing that are those of one source.

    Args:
        names: all names.
        prefix: of those of the source; it is removed.
    """

    def __init__(self, names: Iterable[str], prefix: str) -> None:
        self._names = names
        self._prefix = prefix

    def __iter__(self) -> Iterator[str]:
        prefix = self._prefix
        return (name.removeprefix(prefix) for name in self._names if name.startswith(prefix))


class _Tally:
    """The records and the seconds of audio of each partition, counted as its records are yielded.

    Args:
        corpora: the name of each partition's corpus, for records without a `dataset_name`.
    """

    def __init__(self, corpora: Sequence[str]) -> None:
        self._corpora = corpora
        self.records = [0] * len(corpora)
        self.seconds = [0.0] * len(corpora)
        self._last: list[Record | None] = [None] * len(corpora)

    def count(self, place: int, item: Record) -> float:
        """Count a record of a partition, name its corpus in it, and return the seconds that it counts."""
        if not item.get("dataset_name"):
            item["dataset_name"] = self._corpora[place]
        duration_s: Any = item.get("duration")
        if type(duration_s) is not float or duration_s <= 0:
            duration_s = _seconds(item)
        self.records[place] += 1
        self.seconds[place] += duration_s
        self._last[place] = item
        return duration_s

    def passes(self) -> list[int]:
        """Return how many times each partition has been begun, by the id of its last record."""
        return [_passes(last) for last in self._last]


def _joined(readers: Sequence[FragmentReader], tally: _Tally) -> Iterator[Record | Failed]:
    for place, reader in enumerate(readers):
        has_more = True
        while has_more:
            has_more = False
            for item in reader.next_fragment():
                has_more = True
                if isinstance(item, dict):
                    tally.count(place, item)
                yield item


def _key_of(source: Source) -> tuple[str, str]:
    """Return the corpus and the language of a source."""
    return str(getattr(source, "dataset_name", "") or source.name), str(getattr(source, "lang", "") or "")


def _seconds(item: Record | Failed) -> float:
    """Return the length that an item counts; a record without one counts as one of typical length."""
    if isinstance(item, Failed):
        return 0.0
    value: Any = item.get("duration")
    return float(value) if isinstance(value, float | int) and value > 0 else ASSUMED_DURATION_S


def _passes(last: Record | None) -> int:
    times = "" if last is None else last[ID].rpartition("#")[2]
    return int(times) if times.isdecimal() and last is not None and "#" in last[ID] else 1


def _check_table(setting: str, table: Mapping[str, float], names: Sequence[str]) -> None:
    missing = [name for name in names if name not in table]
    if missing:
        raise PlanError(
            f"{setting} has no {_some(missing)}; no input is left out in silence: add it, or remove the input"
        )
    unknown = [name for name in table if name not in names]
    if unknown:
        raise PlanError(f"{setting} has {_some(unknown)}, which names no input; the inputs are {_some(names)}")
    for name, value in table.items():
        if not 0 < value < math.inf:
            raise PlanError(f"{setting}: {name} has {value!r}; it must be a number above 0")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
