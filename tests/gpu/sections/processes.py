"""Runs the code of sections in processes of its own, as far as the time of the section allows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import IO

_STARTED = time.monotonic()


def left_s() -> float:
    """Return how much of this section's time is left."""
    return float(os.environ.get("CURATE_BENCH_LIMIT_S", "600")) - (time.monotonic() - _STARTED)


def children(code: str, variants: Iterable[tuple[str, Mapping[str, str]]], limit_s: float) -> dict[str, str]:
    """Run `code` once for each (argument, environment), all at once, and return the `last_result` of each."""
    with ExitStack() as files:
        running: dict[str, tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]] = {}
        for argument, environment in variants:
            # Files, because a process would wait for the reader of its pipe.
            out, err = (files.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            command, variables = [sys.executable, "-c", code, argument], {**os.environ, **environment}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=variables)
            running[argument] = process, out, err
        deadline = time.monotonic() + limit_s
        printed: dict[str, str] = {}
        for argument, (process, *outputs) in running.items():
            try:
                process.wait(max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                outputs[1].write(b"\nTimeoutError: it was ended\n")
            out_text, err_text = map(_written, outputs)
            print(f"--- {argument}: exit code {process.returncode}\n{out_text[-3000:]}\n{err_text[-6000:]}", flush=True)
            printed[argument] = last_result(out_text, err_text, process.returncode)
    return printed


def _written(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def last_result(out: str, err: str, exit_code: int) -> str:
    """Return the last line that a process printed; after an error, as far as it came, with the error.

    A process may end by an abort, whose message stands above pages of frames.
    """
    last = (out.strip().splitlines() or [""])[-1]
    if exit_code == 0 and last:
        return last
    try:
        row = json.loads(last)
    except ValueError:
        row = {}
    named = [line.strip() for line in err.splitlines() if re.match(r"\s*what\(\):|[\w.]*(Error|Exception)\b", line)]
    reason = named[-1] if named else err.strip()
    return json.dumps({**(row if isinstance(row, dict) else {}), "error": reason[-800:], "exit_code": exit_code})
