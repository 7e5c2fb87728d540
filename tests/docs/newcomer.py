#!/usr/bin/env python3
"""Runs the commands of the tutorial in order, from a clone to a plugin, as a newcomer would.

    python3 tests/docs/newcomer.py          # in an empty environment: makes one, with `make demo`
    python3 tests/docs/newcomer.py --here   # with the Python that runs it, which has curate installed

The tracked files are copied to an empty folder first. Blocks of Python and YAML that begin with `# file: …` or
`# name.ext` are saved under that name; lines of console blocks are run in the order of the page, in one shell.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"

_BLOCK = re.compile(r"^```(python|yaml|console)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_SET_UP = ("make ", "source ", "pip install ")


def steps(page: str, *, here: bool) -> list[str]:
    """Return the page's blocks as lines of a shell script, in their order.

    Args:
        here: leave out what sets an environment up, and take the packages of this one.
    """
    script: list[str] = []
    for language, block in _BLOCK.findall(page):
        name = re.match(r"# (\S+\.(?:py|yaml))\n", block)
        if name is not None:
            script.append(f"cat > {name[1]} <<'END_OF_BLOCK'\n{block}END_OF_BLOCK")
        elif language == "console":
            script += [line for line in block.splitlines() if not (here and line.startswith(_SET_UP))]
    return script


def copy_of_the_project(folder: Path) -> Path:
    """Copy the files of the project that git knows, or would, into a folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    project = folder / "curate"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name)
    return project


def main() -> int:
    """Walk the path; return the exit code of the first step that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--here", action="store_true", help="use this Python's packages, and set nothing up")
    here: bool = parser.parse_args().here
    with tempfile.TemporaryDirectory() as folder:
        project = copy_of_the_project(Path(folder))
        script = steps((project / "docs" / "tutorial.md").read_text(encoding="utf-8"), here=here)
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        if here:
            site = Path(folder) / "site"
            environment["PYTHONPATH"] = os.pathsep.join([str(project), str(site)])
            script = within_this_environment(script, site)
        words = ["bash", "-euxo", "pipefail", "-c", "\n".join(script)]
        return subprocess.run(words, cwd=project, env=environment).returncode


def within_this_environment(script: list[str], site: Path) -> list[str]:
    """Return the script for the Python that runs this: its `curate`, and the plugin installed into a folder."""
    made = next(place for place, line in enumerate(script) if line.startswith("curate plugins new"))
    install = "python -m pip install --quiet --no-index --no-deps --no-build-isolation"
    return [
        f'python() {{ {sys.executable} "$@"; }}',
        'curate() { python -m curate.cli "$@"; }',
        "curate run pipelines/quickstart/pipeline.yaml",  # what `make demo` does
        *script[: made + 1],
        f"{install} --target {site} ./demo-plugin",
        *script[made + 1 :],
    ]


if __name__ == "__main__":
    sys.exit(main())
