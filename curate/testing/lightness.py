"""Checks that announcing a plugin costs nothing: every start of curate reads every plugin."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "duckdb",
    "jax",
    "jiwer",
    "librosa",
    "matplotlib",
    "nemo",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
    "ray",
    "scipy",
    "sklearn",
    "soundfile",
    "soxr",
    "tensorflow",
    "torch",
    "torchaudio",
    "transformers",
)
"""Modules that no plugin module may import; a stage's own module imports them."""


def assert_plugin_is_light(module: str, *, heavy: tuple[str, ...] = HEAVY) -> None:
    """Check that a plugin module, and the answers of its hooks, import nothing heavy.

    Args:
        module: what the entry point names, such as `my_package.plugin`.
        heavy: top-level modules that must not be imported.

    Raises:
        AssertionError: it imports a heavy module, or cannot be imported; the message names it.
    """
    script = f"""
import importlib, sys
plugin = importlib.import_module({module!r})
for name, answer in vars(plugin).items():
    if name.startswith("curate_") and not name.startswith("curate_on_"):
        answer()
print(*sorted(set({heavy!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{module} cannot be imported:\n{done.stderr}"
    imported = done.stdout.split()
    assert not imported, (
        f"{module} imports {', '.join(imported)}, at every start of curate: register its user by a reference, "
        "'package.module:Name', and import it there"
    )
