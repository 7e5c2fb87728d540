"""The programs of the comparison: how each is started on the same material, and what its output says of each record."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.peers.material import QUICKSTART, Material

JOBS = Path(__file__).with_name("jobs")
SHIMS = Path(__file__).with_name("shims")
REPOSITORY = Path(__file__).resolve().parents[3]
MODEL = QUICKSTART / "model.nemo"
PARTS = 8
"""The number of input files for programs whose unit of work is an input file."""


@dataclass(frozen=True)
class Outcome:
    """What became of the records.

    Args:
        published: how often each id is in the published files.
        explained: the ids that a file names as filtered or failed.
    """

    published: Counter[str]
    explained: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Program:
    """A program under comparison.

    Args:
        name: as in the table.
        python: the variable with the path of its interpreter; empty: this one.
        versions: distributions whose versions identify it.
        job: the files that its user writes for the job, in `jobs`.
        command: gives the arguments after the interpreter, from the material and the folder for the output.
        outcome: reads the output.
        measures: the same as `command` for the measures alone; None: it has no such stages.
        path: gives the folders for PYTHONPATH.
    """

    name: str
    python: str
    versions: tuple[str, ...]
    job: tuple[str, ...]
    command: Callable[[Material, Path], list[str]]
    outcome: Callable[[Path], Outcome]
    measures: Callable[[Material, Path], list[str]] | None = None
    path: Callable[[], list[Path]] = list

    def interpreter(self) -> str | None:
        """The interpreter; None: not installed."""
        if not self.python:
            return sys.executable
        found = os.environ.get(self.python, "")
        return found if found and Path(found).exists() else None

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of its processes: one thread a process, no network, its own commands first."""
        interpreter = self.interpreter()
        assert interpreter is not None
        env = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "CURATE_PLUGINS")}
        if self.python:
            env["PYTHONPATH"] = os.pathsep.join(map(str, self.path()))
        env |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        env |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "PYTHONUNBUFFERED": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        env["RAY_AUTH_MODE"] = "disabled"  # clusters of one user on one machine
        env["PATH"] = os.pathsep.join([str(Path(interpreter).parent), env.get("PATH", os.defpath)])
        return env

    def found_versions(self) -> dict[str, str]:
        """The versions of its distributions, as its interpreter sees them."""
        script = (
            "import importlib.metadata as m, json, sys\n"
            "def v(name):\n"
            "    try: return m.version(name)\n"
            "    except m.PackageNotFoundError: return None\n"
            "print(json.dumps({n: v(n) for n in sys.argv[1:]}))"
        )
        interpreter = self.interpreter()
        assert interpreter is not None
        done = subprocess.run([interpreter, "-c", script, *self.versions], capture_output=True, text=True, check=True)
        versions = {name: value for name, value in json.loads(done.stdout).items() if value}
        checkout = REPOSITORY if not self.python else os.environ["CURATE_SDP"] if self.name.startswith("SDP") else None
        if checkout is not None:
            revision = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
            versions["commit"] = subprocess.run(revision, capture_output=True, text=True, check=True).stdout.strip()
        return versions

    def lines(self) -> int:
        """The lines that a user writes for the job, without blank lines, comments and docstrings."""
        return sum(count_lines(JOBS / name) for name in self.job)


def count_lines(path: Path) -> int:
    """Return the number of lines with code or configuration."""
    source = path.read_text()
    if path.suffix != ".py":
        return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in source.splitlines())
    begins = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    between = {tokenize.COMMENT, tokenize.NL}
    lines: set[int] = set()
    starts_statement = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in begins:
            starts_statement = True
        elif token.type not in between:
            if not (starts_statement and token.type == tokenize.STRING):
                lines.update(range(token.start[0], token.end[0] + 1))
            starts_statement = False
    return len(lines)


def hub_with_model(folder: Path) -> None:
    """Lay out a cache of the Hugging Face hub with the model as `local/model`, for programs that take only names."""
    repository = folder / "hub" / "models--local--model"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.nemo").symlink_to(MODEL)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)


def rows(paths: Iterator[Path]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of JSONL files; a line that was cut by a kill is left out."""
    for path in sorted(paths):
        for line in path.read_text(errors="replace").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def _ids(paths: Iterator[Path]) -> Iterator[str]:
    for row in rows(paths):
        yield str(row["id"])


def _curate(material: Material, out: Path) -> list[str]:
    return _curate_run("curate.yaml", material, out, f"vars.model={MODEL}")


def _curate_measures(material: Material, out: Path) -> list[str]:
    return _curate_run("measures_curate.yaml", material, out)


def _curate_run(job: str, material: Material, out: Path, *settings: str) -> list[str]:
    command = ["-m", "curate.cli", "run", str(JOBS / job), "--run-dir", str(out / "run")]
    for setting in (f"vars.manifest={material.manifest}", *settings):
        command += ["--set", setting]
    return command


def _curate_outcome(out: Path) -> Outcome:
    run = out / "run"
    noted = [*run.glob("filtered/*.jsonl"), *run.glob("quarantine/*.jsonl")]
    explained = frozenset(str(row["record"]["id"]) for row in rows(iter(noted)))
    return Outcome(Counter(_ids(run.glob("kept.jsonl"))), explained)


def _curator(material: Material, out: Path) -> list[str]:
    return [str(JOBS / "curator.py"), str(material.parts(PARTS)), str(out)]


def _curator_with_checkpoint(material: Material, out: Path) -> list[str]:
    return [*_curator(material, out), str(out / "checkpoint")]


def _curator_measures(material: Material, out: Path) -> list[str]:
    return [str(JOBS / "measures_curator.py"), str(material.parts(PARTS)), str(out)]


def _curator_outcome(out: Path) -> Outcome:
    return Outcome(Counter(_ids(out.glob("kept/*.jsonl"))))


def _sdp(job: str) -> Callable[[Material, Path], list[str]]:
    def command(material: Material, out: Path) -> list[str]:
        main = str(Path(os.environ["CURATE_SDP"]) / "main.py")
        settings = [f"+manifest={material.manifest}", f"+model={MODEL}", f"+folder={out}"]
        return [main, f"--config-path={JOBS}", f"--config-name={job}", *settings]

    return command


def _sdp_outcome(out: Path) -> Outcome:
    return Outcome(Counter(_ids(out.glob("kept.jsonl"))))


def _sdp_path() -> list[Path]:
    return [SHIMS, Path(os.environ["CURATE_SDP"])]


def _datatrove(material: Material, out: Path) -> list[str]:
    return [str(JOBS / "trove.py"), str(material.parts(PARTS)), str(out), str(MODEL)]


def _datatrove_outcome(out: Path) -> Outcome:
    return Outcome(Counter(_ids(out.glob("kept/*.jsonl"))), frozenset(_ids(out.glob("filtered/*.jsonl"))))


def _lhotse(material: Material, out: Path) -> list[str]:
    return [str(JOBS / "cuts.py"), str(material.manifest), str(out), str(MODEL)]


def _lhotse_outcome(out: Path) -> Outcome:
    return Outcome(Counter(_ids(out.glob("kept.jsonl"))), frozenset(_ids(out.glob("all.jsonl"))))


CURATE = Program("curate", "", ("curate-speech",), ("curate.yaml",), _curate, _curate_outcome, _curate_measures)
CURATOR = Program(
    "NeMo Curator",
    "CURATE_CURATOR_PYTHON",
    ("nemo-curator", "ray"),
    ("curator.py",),
    _curator,
    _curator_outcome,
    _curator_measures,
    lambda: [SHIMS],
)
CURATOR_WITH_CHECKPOINT = Program(
    "NeMo Curator, checkpoint_path",
    "CURATE_CURATOR_PYTHON",
    ("nemo-curator", "ray"),
    ("curator.py",),
    _curator_with_checkpoint,
    _curator_outcome,
    path=lambda: [SHIMS],
)
SDP = Program(
    "SDP", "CURATE_SDP_PYTHON", (), ("sdp.yaml",), _sdp("sdp.yaml"), _sdp_outcome, _sdp("measures_sdp.yaml"), _sdp_path
)
SDP_CHECKED = Program(
    "SDP, ASRFileCheck",
    "CURATE_SDP_PYTHON",
    (),
    ("sdp_checked.yaml",),
    _sdp("sdp_checked.yaml"),
    _sdp_outcome,
    path=_sdp_path,
)
DATATROVE = Program(
    "datatrove and a script",
    "CURATE_DATATROVE_NEMO_PYTHON",
    ("datatrove",),
    ("trove.py",),
    _datatrove,
    _datatrove_outcome,
)
LHOTSE = Program("lhotse and a script", "CURATE_LHOTSE_PYTHON", ("lhotse",), ("cuts.py",), _lhotse, _lhotse_outcome)

PROGRAMS = (CURATE, CURATOR, SDP, DATATROVE, LHOTSE)
