"""Nothing heavy is imported to show help or to list what there is. By `sys.modules`, not by the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.unit.plugin.distributions import Site

HEAVY = {"torch", "nemo", "ray", "pyarrow", "soundfile", "soxr", "jiwer", "numpy", "whisper_normalizer"}


def modules_after(code: str, **environment: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import curate",
        "import curate.plugin",
        "from curate.plugin import default_host; default_host().stage('asr_nemo')",
        "from curate.cli import main; main(['--help'])",
        "from curate.cli import main; main(['--version'])",
        "from curate.cli import main; main(['plugins'])",
        "from curate.cli import main; main(['stages'])",
        "from curate.cli import main; main(['executors'])",
        "from curate.cli import main; main(['doctor'])",
        "from curate.cli import main; main(['nonsense'])",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert not modules_after(code) & HEAVY


def test_help_imports_no_verb_and_nothing_of_rich() -> None:
    loaded = modules_after("from curate.cli import main; main(['--help'])")

    assert not {
        name for name in loaded if name.startswith(("curate.cli.stage", "curate.cli.plugins", "curate.cli.run"))
    }
    assert "rich" not in loaded


def test_importing_curate_does_not_look_for_plugins(site: Site) -> None:
    module = site.install_stage("loud", "shout")

    assert module not in modules_after("import curate, curate.plugin", PYTHONPATH=str(site.path))


def test_help_of_one_verb_does_not_import_another() -> None:
    loaded = modules_after("from curate.cli import main; main(['plugins', '--help'])")

    assert "curate.cli.plugins" in loaded
    assert "curate.cli.stages" not in loaded
