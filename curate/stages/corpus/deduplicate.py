"""Duplicates in a corpus: repeated texts are marked, repeated audio is left out."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

from curate.composite import CompositeStage
from curate.corpus import Decisions, KeyGather, KeyTable
from curate.corpus.key_table import quoted
from curate.corpus.row_writer import RowWriter
from curate.errors import PlanError
from curate.records import ID, AudioBatch, Record
from curate.resolution import PluginLookup
from curate.stage import Stage
from curate.stages.corpus.keys import AUDIO_KEY, BANDS_KEY, FINGERPRINT_KEY, TEXT_KEY, AudioKeys, TextKeys
from curate.stages.sources.manifest import ReadManifest
from curate.stages.text.error_rates import resolve_normaliser

Comparison = Literal["near", "exact", "none"]
COMPARISONS = ("near", "exact", "none")


def _default_scope() -> list[str]:
    return ["speaker"]


@dataclass
class Deduplicate(CompositeStage):
    """Finds duplicates: the same text is marked and, if asked for, limited; the same audio is left out.

    Columns: `duplicate_of`, the `_id` of the first record with this text (null: it is the first), and `text_count`, the
    number of records with it, of any speaker; both are null where the text is not compared. Texts are compared after
    normalisation. Near duplicates are texts with an edit similarity of 0.8 below 40 letters, and with a Jaccard
    similarity of their character 3-grams of 0.8 from 40 on. Of the records with the same audio the first in the order
    of the input stays; the others are filtered.

    Args:
        text: `near`, `exact`, or `none`: texts are not compared.
        audio: `near` (the same recording in another coding, at another level, or shifted), `exact` (the same decoded
            samples), or `none`: audio is not decoded.
        max_per_text: the number of records with one text that stay in each scope, the first ones; null: all.
        scope: the columns that, with the text, make the scope of `max_per_text`; records may lack them.
        min_words: shorter texts are not compared.
        normaliser: as for `WordErrorRate`.
        against: manifests, such as those of test sets: a record with one of their texts is left out, and one with
            their audio where they have the column `dedup_audio`.
        keep_keys: leave the columns with the keys in the records, for manifests to compare others with.
        text_key: the column with the text, in these manifests too.
        lang_key: the column with the language; records may lack it.
        filepath_key: the column with the path of the audio.
    """

    text: Comparison = "near"
    audio: Comparison = "exact"
    max_per_text: int | None = None
    scope: Sequence[str] = field(default_factory=_default_scope)
    min_words: int = 4
    normaliser: str = "auto"
    against: Sequence[str] = ()
    keep_keys: bool = False
    text_key: str = "text"
    lang_key: str = "lang"
    filepath_key: str = "audio_filepath"

    def check(self) -> None:
        for name in ("text", "audio"):
            if getattr(self, name) not in COMPARISONS:
                raise PlanError(f"{name}={getattr(self, name)!r:.80}: choose from {', '.join(COMPARISONS)}")
        if self.text == "none" == self.audio:
            raise PlanError("text and audio are both 'none': there is nothing to compare")
        if self.text == "none" and self.max_per_text is not None:
            raise PlanError("max_per_text compares texts: set text to 'near' or 'exact'")
        if isinstance(self.scope, str) or isinstance(self.against, str):
            raise PlanError("scope and against must be lists")
        for path in self.against:
            file_digest(Path(path))
        if self.max_per_text is not None and self.max_per_text < 1:
            raise PlanError(f"max_per_text={self.max_per_text}: must be at least 1, or null for all")

    def decompose(self) -> Sequence[Stage]:
        stages: list[Stage] = []
        if self.text != "none":
            texts = TextKeys(self.text_key, self.normaliser, self.min_words, self.text == "near", self.lang_key)
            stages.append(texts.with_(name="text_keys"))
        if self.audio != "none":
            stages.append(AudioKeys(self.audio == "near", self.filepath_key).with_(name="audio_keys"))
        parts = {name: value for name, value in self.settings().items() if name != "filepath_key"}
        return [*stages, ChooseDuplicates(**parts).with_(name="choose")]


@dataclass
class ChooseDuplicates(KeyGather):
    """Decides from the keys which records are duplicates; the last part of `deduplicate`, with its settings."""

    text: Comparison
    audio: Comparison
    max_per_text: int | None
    scope: Sequence[str]
    min_words: int
    normaliser: str
    against: Sequence[str]
    keep_keys: bool
    text_key: str
    lang_key: str

    def resolve(self, host: PluginLookup) -> Self:
        return self.with_resolved(normaliser=resolve_normaliser(self.normaliser, host))

    def fingerprint(self) -> Mapping[str, Any]:
        return {"against": [file_digest(Path(path)) for path in self.against]}

    def _columns(self) -> list[str]:
        return list(key_columns(self.text, self.audio))

    def key_types(self) -> Mapping[str, str]:
        return {**key_columns(self.text, self.audio), "scope": "VARCHAR"}

    def key_row(self, record: Record) -> Sequence[Any]:
        return [*packed_keys(record, self._columns()), None if self.max_per_text is None else self._scope_of(record)]

    def _scope_of(self, record: Record) -> str:
        return json.dumps([record.get(name) for name in self.scope], ensure_ascii=True, default=str)

    def reads(self) -> Collection[str]:
        asked = list(self.scope) if list(self.scope) != _default_scope() else []
        return (*self._columns(), *(asked if self.max_per_text is not None else []))

    def writes(self) -> Collection[str]:
        return ("duplicate_of",) if self.text == "none" else ("duplicate_of", "text_count")

    def dropped_keys(self) -> Collection[str]:
        return () if self.keep_keys else self._columns()

    def decide(self, keys: KeyTable) -> Decisions:
        from curate.corpus.audio_groups import group_audio
        from curate.corpus.text_groups import group_texts

        run, columns = keys.connection.execute, self._columns()
        names = ["position", "id", *(f"{name} AS {name.removeprefix('dedup_')}" for name in columns)]
        selected = ", ".join(names)
        run(f"CREATE VIEW compared AS SELECT {selected} FROM keys {self._union(keys, selected)}")
        nothing = "(SELECT NULL::BIGINT AS position, NULL::BIGINT AS leader, NULL::BIGINT AS copies LIMIT 0)"
        texts = nothing if self.text == "none" else group_texts(keys, "compared", near=self.text == "near")
        audio = nothing if self.audio == "none" else group_audio(keys, "compared", near=self.audio == "near")
        run(
            f"""CREATE TABLE grouped AS SELECT k.position, k.scope, t.leader AS text_leader, t.copies,
            CASE WHEN a.leader <> k.position THEN a.leader END AS audio_leader
            FROM keys k LEFT JOIN {texts} t USING (position) LEFT JOIN {audio} a USING (position)"""
        )
        run(f"CREATE TABLE judged AS SELECT *, {self._verdict()} AS reject FROM ({self._turns()})")
        counted = "" if self.text == "none" else "copies AS text_count,"
        return Decisions(
            f"""SELECT j.position, n.id AS duplicate_of, {counted} reject FROM judged j LEFT JOIN compared n
            ON n.position = coalesce(audio_leader, CASE WHEN text_leader <> j.position THEN text_leader END)""",
            columns=tuple(self.writes()),
            rejects=True,
        )

    def _turns(self) -> str:
        """Return the query that counts the records of each text and scope, without those that are left out anyway."""
        if self.max_per_text is None:
            return "SELECT *, 0 AS turn FROM grouped"
        return (
            "SELECT *, row_number() OVER (PARTITION BY text_leader, scope, audio_leader IS NULL ORDER BY position) "
            "AS turn FROM grouped"
        )

    def _verdict(self) -> str:
        limit = (
            ""
            if self.max_per_text is None
            else (
                f"WHEN text_leader IS NOT NULL AND turn > {self.max_per_text} "
                f"THEN 'more than {self.max_per_text} of one text'"
            )
        )
        return (
            "CASE WHEN audio_leader < 0 THEN 'audio of another manifest' "
            "WHEN audio_leader IS NOT NULL THEN 'duplicate audio' "
            f"WHEN text_leader < 0 THEN 'text of another manifest' {limit} END"
        )

    def _union(self, keys: KeyTable, selected: str) -> str:
        """Write the keys of the other manifests, at negative positions, and return how they join the query."""
        if not self.against:
            return ""
        path = keys.scratch / "against.parquet"
        with RowWriter(path, {"position": "BIGINT", "id": "VARCHAR", **self.key_types()}) as file:
            for number, record in enumerate(self._other_records(), start=1):
                file.append((-number, record[ID], *packed_keys(record, self._columns()), None))
        return f"UNION ALL SELECT {selected} FROM read_parquet('{quoted(path)}')"

    def _other_records(self) -> Iterator[Record]:
        """Yield the records of the other manifests, with text keys; audio keys are there if a manifest has them."""
        texts = TextKeys(self.text_key, self.normaliser, self.min_words, self.text == "near", self.lang_key)
        texts = texts.with_resolved(normaliser=self.resolved["normaliser"])
        texts.setup()
        for path in self.against:
            records = (record for record in ReadManifest(path).read() if isinstance(record, dict))
            while data := list(islice(records, 1024)):
                yield from texts.process(AudioBatch(data)).data if self.text != "none" else data


_KEY_TYPES = {TEXT_KEY: "VARCHAR", BANDS_KEY: "BLOB", AUDIO_KEY: "VARCHAR", FINGERPRINT_KEY: "BLOB"}


def key_columns(text: Comparison, audio: Comparison) -> Mapping[str, str]:
    """Return the columns that `TextKeys` and `AudioKeys` write for these comparisons, with their types in SQL."""
    chosen = (text != "none", text == "near", audio != "none", audio == "near")
    return {name: sql for (name, sql), wanted in zip(_KEY_TYPES.items(), chosen, strict=True) if wanted}


def packed_keys(record: Record, columns: Sequence[str]) -> list[Any]:
    """Return the keys of a record, with those that are packed as bytes."""
    values = (record.get(name) for name in columns)
    return [
        base64.b64decode(value) if value is not None and _KEY_TYPES[name] == "BLOB" else value
        for name, value in zip(columns, values, strict=True)
    ]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        PlanError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PlanError(f"cannot read {path}: {error.strerror or error}") from error
