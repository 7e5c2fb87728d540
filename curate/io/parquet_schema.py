"""Judges a Parquet file by its schema, before a row is read: what no record can have is refused, with the setting."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

from curate.errors import InfrastructureError, PlanError
from curate.storage import RemotePath


def parquet_source(path: Path) -> AbstractContextManager[Any]:
    """Return the object that pyarrow reads from: a local path, which it opens itself, or the open file behind a URL."""
    return path.open("rb") if isinstance(path, RemotePath) else nullcontext(path)


def parquet_schema(path: Path) -> Any:
    """Return the Arrow schema of a Parquet file.

    Raises:
        InfrastructureError: it cannot be read.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet_source(path) as source:
            return cast("Any", parquet).read_schema(source)
    except (OSError, cast("Any", pyarrow).ArrowException) as error:
        raise InfrastructureError(f"cannot read {path}: {error}") from error


def audio_columns(schema: Any) -> list[str]:
    """Return the columns that hold recordings, as Hugging Face's `datasets` writes them: bytes and a path."""
    features = _features(schema)
    return [
        field.name
        for field in schema
        if features.get(field.name, {}).get("_type") == "Audio" or _is_audio_struct(field.type)
    ]


def check_parquet(path: Path, unread: Collection[str]) -> None:
    """Check that records can have the columns of a Parquet file, apart from those that are not read.

    Raises:
        PlanError: one holds recordings, or other binary data.
    """
    schema = parquet_schema(path)
    recordings = audio_columns(schema)
    for field in schema:
        if field.name in unread:
            continue
        if field.name in recordings:
            raise PlanError(
                f"column {field.name!r} of {path} holds recordings: use read_hf, or leave them out with "
                f"drop: [{field.name}]"
            )
        if _has_binary(field.type):
            raise PlanError(
                f"column {field.name!r} of {path} is of the type {field.type}, which no record may have; leave it out "
                f"with drop: [{field.name}]"
            )


def _features(schema: Any) -> dict[str, Any]:
    """Return the description of the columns that Hugging Face's `datasets` leaves in a schema."""
    metadata: dict[bytes, bytes] = schema.metadata or {}
    try:
        described: Any = json.loads(metadata.get(b"huggingface", b"{}"))
        features: Any = described["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    if not isinstance(features, dict):
        return {}
    features = cast("dict[str, Any]", features)
    return {name: value for name, value in features.items() if isinstance(value, dict)}


def _is_audio_struct(kind: Any) -> bool:
    import pyarrow

    types = cast("Any", pyarrow).types
    return (
        types.is_struct(kind)
        and {kind.field(index).name for index in range(kind.num_fields)} == {"bytes", "path"}
        and _is_binary(kind.field("bytes").type)
    )


def _is_binary(kind: Any) -> bool:
    import pyarrow

    types = cast("Any", pyarrow).types
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _has_binary(kind: Any) -> bool:
    return _is_binary(kind) or any(_has_binary(kind.field(index).type) for index in range(kind.num_fields))
