"""Coverage-guided fuzzing of the parsers of foreign bytes, by hand, with atheris.

    pip install atheris
    python -m tests.fuzz.parsers line -max_total_time=60
    python -m tests.fuzz.parsers manifest corpus/ -max_total_time=600

What follows the parser's name goes to libFuzzer: a folder of inputs to begin with and to extend, `-runs`, `-max_len`.
Each parser may give a value or its own errors; anything else ends the fuzzing, and the input is in `crash-…`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["curate", "yaml"]):
    from curate.asr.checkpoint import read_checkpoint
    from curate.audio import load, probe
    from curate.config.yaml_reader import parse, parse_value
    from curate.errors import ConfigError, InfrastructureError, PlanError, RecordError
    from curate.expressions import Expression
    from curate.io import read_rows
    from curate.io.jsonl import parse_line
    from curate.io.rows import decode_row, encode_row

FILE = Path(tempfile.mkdtemp(prefix="curate-fuzz-"), "input")


def line(data: bytes) -> None:
    parsed = parse_line(data)
    if isinstance(parsed, RecordError):
        assert parsed.code == "bad_json"
    else:
        record = {**parsed, "_id": "x:1"}
        assert decode_row(encode_row(record)) == record


def manifest(data: bytes) -> None:
    for suffix in (".jsonl", ".jsonl.gz", ".parquet"):
        path = FILE.with_suffix(suffix)
        path.write_bytes(data)
        with suppress(InfrastructureError):
            for _ in read_rows(path):
                pass


def audio(data: bytes) -> None:
    FILE.write_bytes(data)
    for read in (probe, load):
        with suppress(RecordError):
            read(FILE)


def pipeline(data: bytes) -> None:
    with suppress(ConfigError):
        parse(data, "input")
    with suppress(ConfigError):
        parse_value(data.decode(errors="surrogateescape"), "input")


def checkpoint(data: bytes) -> None:
    FILE.write_bytes(data)
    with suppress(PlanError):
        read_checkpoint(FILE)


def expression(data: bytes) -> None:
    with suppress(ConfigError, PlanError, RecordError):
        Expression(data.decode(errors="surrogateescape"))


PARSERS: Mapping[str, Callable[[bytes], None]] = {
    parser.__name__: parser for parser in (line, manifest, audio, pipeline, checkpoint, expression)
}


def main() -> None:
    """Fuzz the parser that the first argument names, until something is found or libFuzzer's limits are reached."""
    if sys.argv[1:2] == [] or sys.argv[1] not in PARSERS:
        sys.exit(f"say what to fuzz: {', '.join(PARSERS)}")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], PARSERS[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
