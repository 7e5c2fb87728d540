"""Law 7: what is not used is not imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("jinja2", "torch", "nemo", "ray", "pyarrow", "soundfile", "soxr", "jiwer", "whisper_normalizer", "numpy")


def imported_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import curate",
        "from curate import *",
        "from curate.stages import *",
        "from curate.executors import *",
        "import curate.cli; curate.cli.main(['--help'])",
        "import curate.cli; curate.cli.main(['plugins'])",
        "import curate.cli; curate.cli.main(['stages'])",
        "import curate.cli; curate.cli.main(['plan', 'pipelines/quickstart/pipeline.yaml', '--json'])",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    assert imported_by(code) == set()
