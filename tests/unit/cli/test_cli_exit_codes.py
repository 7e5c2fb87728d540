"""One clear block on standard error, and an exit code that says what kind of trouble it is."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import curate as package
from tests.unit.plugin.distributions import Site

VERB_PLUGIN = """
from curate.plugin import CommandRef, hookimpl

@hookimpl
def curate_commands():
    return [CommandRef("explode", "explode_verb:explode", "Fail in the way you ask for")]
"""

VERB = """
import click
from curate import errors

@click.command()
@click.argument("how")
def explode(how):
    "Fail in the way you ask for."
    if how == "return":
        return 3
    if how == "none":
        return None
    if how == "exit":
        click.get_current_context().exit(5)
    raise {
        "plan": errors.PlanError("the [bold]column[/bold] is missing\\nadd a stage"),
        "config": errors.ConfigError("p.yaml:3:1: no such key"),
        "disk": errors.InfrastructureError("the disk is full"),
        "books": errors.AccountingError("1 != 2"),
        "bug": ValueError("nobody thought of this"),
        "interrupt": KeyboardInterrupt(),
        "click": click.ClickException("wrong"),
    }[how]
"""


@pytest.fixture
def exploding(site: Site) -> Site:
    site.install("curate-explode", VERB_PLUGIN)
    (site.path / "explode_verb.py").write_text(VERB)
    return site


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        ("plan", 2, "error: the [bold]column[/bold] is missing\nadd a stage\n"),
        ("config", 2, "error: p.yaml:3:1: no such key\n"),
        ("disk", 4, "error: the disk is full\n"),
        ("click", 2, "error: wrong\n"),
        ("return", 3, ""),
        ("none", 0, ""),
        ("exit", 5, ""),
    ],
)
def test_an_error_becomes_a_code_and_one_block_of_text(exploding: Site, curate, how: str, code: int, text: str) -> None:
    assert curate("explode", how) == (code, "", text)


def test_ctrl_c_is_130(exploding: Site, curate) -> None:
    outcome = curate("explode", "interrupt")

    assert outcome.code == 130
    assert "error: interrupted" in outcome.err


@pytest.mark.parametrize(("how", "line"), [("bug", "ValueError: nobody thought of this"), ("books", "1 != 2")])
def test_a_bug_shows_its_last_line_and_how_to_see_more(exploding: Site, curate, how: str, line: str) -> None:
    outcome = curate("explode", how)

    assert outcome.code == 1
    assert outcome.err.startswith("error: this is a bug in curate or a plugin\n")
    assert line in outcome.err
    assert "curate --debug" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(("how", "code"), [("bug", 1), ("plan", 2), ("disk", 4)])
def test_debug_shows_the_traceback(exploding: Site, curate, how: str, code: int) -> None:
    outcome = curate("--debug", "explode", how)

    assert outcome.code == code
    assert 'explode_verb.py", line' in outcome.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["explod", "x"], "error: unknown command 'explod': did you mean 'explode'?"),
        (["explode"], "error: Missing argument 'HOW'.\nTry: curate explode --help"),
        (["explode", "--wat"], "error: No such option"),
        (["--wat"], "error: No such option"),
        (["explode", "x", "--no-plugin", "y"], "it comes before the verb: curate --no-plugin … explode …"),
        (["--log-level", "loud", "stages"], "'loud' is not one of"),
        (["--no-plugin", "nobody", "stages"], "error: --no-plugin nobody: no installed distribution"),
        (["--no-plugin", "nobody", "--help"], "error: --no-plugin nobody: no installed distribution"),
        (["--plugins-file", "/nowhere.py", "stages"], "error: /nowhere.py: this plugins-file cannot be read"),
    ],
)
def test_a_wrong_call_is_exit_2(exploding: Site, curate, arguments: list[str], text: str) -> None:
    outcome = curate(*arguments)

    assert outcome.code == 2
    assert text in outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


def test_a_broken_plugins_file_is_exit_2_with_the_line(tmp_path: Path, curate) -> None:
    file = tmp_path / "mine.py"
    file.write_text("x = 1\ndef broken(:\n")

    outcome = curate("--plugins-file", str(file), "stages")

    assert outcome.code == 2
    assert f"error: {file}:2: SyntaxError: " in outcome.err


def test_a_call_without_a_verb_shows_the_help_and_is_exit_2(curate) -> None:
    outcome = curate()

    assert outcome.code == 2
    assert "Usage: curate" in outcome.err


def test_the_version_is_printed(curate) -> None:
    assert curate("--version") == (0, f"curate {package.__version__}\n", "")


def test_a_verb_that_two_plugins_announce_is_reached_by_its_qualified_name(exploding: Site, curate) -> None:
    exploding.install("curate-rival", VERB_PLUGIN)

    assert curate("explode", "return").code == 2
    assert curate("curate-rival/explode", "return").code == 3
    assert "curate-rival/explode" in curate("--help").out
    assert curate("--no-plugin", "curate-rival", "explode", "return").code == 3


def test_errors_are_coloured_on_a_terminal_only(exploding: Site) -> None:
    command = [sys.executable, "-m", "curate.cli", "explode", "plan"]
    environment = os.environ | {"PYTHONPATH": str(exploding.path), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)

    piped = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    leader, follower = pty.openpty()
    subprocess.run(command, env=environment, stderr=follower, stdin=follower, timeout=60)
    os.close(follower)
    on_terminal = os.read(leader, 65536).decode()
    os.close(leader)

    assert piped.stderr.startswith("error: ")
    assert "\x1b[" in on_terminal
    assert "error: " in on_terminal


def test_a_real_ctrl_c_is_130(site: Site) -> None:
    site.install("curate-slow", VERB_PLUGIN)
    (site.path / "explode_verb.py").write_text(
        "import click, time\n@click.command()\ndef explode():\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "curate.cli", "explode"],
        env=os.environ | {"PYTHONPATH": str(site.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
