"""Seeded draws of records: each record has a number that depends on the seed and its id alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

from curate.errors import PlanError
from curate.records import ID, Record, audio_ms

MS_OF_AN_HOUR = 3_600_000


def draw_number(seed: int, record: Record) -> int:
    """Return a record's number in a draw, of 52 bits, so that a DOUBLE holds it as well.

    Records that are added change no number of another, and neither does the order in which they come.
    """
    digest = hashlib.blake2b(f"{seed}:{record[ID]}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 12


def known_audio_ms(record: Record) -> int | None:
    """Return a record's `duration` in whole milliseconds; None where it has none."""
    return audio_ms(record) or None


def value_label(value: Any) -> str | None:
    """Return the value of a column as a string by which records are grouped; None for null."""
    if value is None or isinstance(value, str):
        return value if value is None else value.encode("utf-8", "replace").decode()
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a table without types has 3, and a record 3.0
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def group_label(record: Record, columns: Sequence[str]) -> str:
    """Return the name of the group that a record is in by some columns: `lang=de, speaker=7`."""
    return ", ".join(f"{name}={value_label(record.get(name))}" for name in columns)


def check_columns(name: str, columns: object, *, needed: bool) -> None:
    """Check a setting that is a list of columns.

    Raises:
        PlanError: it is not one, or empty where it is needed.
    """
    if isinstance(columns, str) or not isinstance(columns, Collection):
        raise PlanError(f"{name}={columns!r:.80}: must be a list of columns")
    if needed and not columns:
        raise PlanError(f"{name} is empty: name at least one column")
