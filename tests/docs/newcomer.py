#!/usr/bin/env python3
"""Runs the commands of README and tutorial in order, from a clone to a data set and a plugin, as a newcomer would.

    python3 tests/docs/newcomer.py           # in an empty environment: makes one, by the commands of the pages
    python3 tests/docs/newcomer.py --light   # README's own recordings alone: no torch, no NeMo
    python3 tests/docs/newcomer.py --here    # with the Python that runs it, which has curate installed

The tracked files are copied to an empty folder first. Blocks of Python and YAML that begin with `# file: …` or
`# name.ext` are saved under that name; lines of console blocks are run in the order of the page, in one shell.
`curate explore` is asked for its first page and its first records, as a browser would, and then interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECTION = "## Your own recordings\n"
"""The part of the README that works without a model."""

INSTALLED = re.compile(r"`(pip install [^`]*)`")
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
    parser.add_argument("--light", action="store_true", help="only what needs no model")
    parser.add_argument("--explore", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.explore:
        explore(arguments.explore)
        return 0
    here: bool = arguments.here
    with tempfile.TemporaryDirectory() as folder:
        project = copy_of_the_project(Path(folder))
        shutil.copytree(project / "pipelines" / "quickstart" / "data", project / "recordings")
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        script = own_recordings(project, here=here)
        if not arguments.light:
            tutorial = steps((project / "docs" / "tutorial.md").read_text(encoding="utf-8"), here=here)
            script += within_this_environment(tutorial, Path(folder) / "site") if here else tutorial
        if here:
            environment["PYTHONPATH"] = os.pathsep.join([str(project), str(Path(folder) / "site")])
        words = ["bash", "-euxo", "pipefail", "-c", "\n".join(script)]
        return subprocess.run(words, cwd=project, env=environment).returncode


def own_recordings(project: Path, *, here: bool) -> list[str]:
    """Return the script of the README's section about recordings of the user's own, with an environment for it."""
    readme = (project / "README.md").read_text(encoding="utf-8")
    section = readme.partition(SECTION)[2].partition("\n## ")[0]
    install = [] if here else ["make demo-light", "source .venv/bin/activate", *INSTALLED.findall(section)]
    python, run = ("python3", "curate") if not here else (sys.executable, f"{sys.executable} -m curate.cli")
    if here and not _has_explorer():
        run += " --plugins-file plugins/curate-explorer/curate_explorer/plugin.py"
    explored = f'{python} tests/docs/newcomer.py --explore {run} "$@"'
    return [
        *install,
        f'curate() {{ if [ "$1" = explore ]; then {explored}; else command {run} "$@"; fi; }}',
        *steps(section, here=here),
    ]


def _has_explorer() -> bool:
    from importlib.metadata import entry_points

    return any(each.name == "explorer" for each in entry_points(group="curate"))


def explore(command: list[str]) -> None:
    """Start the explorer, ask it for its page and for the state of its index, as a browser would, and interrupt it."""
    path = os.pathsep.join([str(ROOT / "plugins" / "curate-explorer"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*command, "--no-open"], stdout=subprocess.PIPE, text=True, env=environment) as explorer:
        assert explorer.stdout is not None
        address = next(found[0] for line in explorer.stdout if (found := re.search(r"http://\S+", line)))
        page = _get(address)
        assert "<html" in page, page[:200]
        while not (state := json.loads(_get(address.replace("/?", "/api/state?"))))["complete"]:
            assert explorer.poll() is None
        assert state["rows"] > 0
        explorer.send_signal(signal.SIGINT)
    print(f"explored {state['rows']} records")


def _get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as answer:  # on this machine
        return answer.read().decode()


def within_this_environment(script: list[str], site: Path) -> list[str]:
    """Return the script for the Python that runs this: its `curate`, and the plugin installed into a folder."""
    made = next(place for place, line in enumerate(script) if line.startswith("curate plugins new"))
    install = "python -m pip install --quiet --no-index --no-deps --no-build-isolation"
    return [
        f'python() {{ {sys.executable} "$@"; }}',
        "curate run pipelines/quickstart/pipeline.yaml",  # what `make demo` does
        *script[: made + 1],
        f"{install} --target {site} ./demo-plugin",
        *script[made + 1 :],
    ]


if __name__ == "__main__":
    sys.exit(main())
