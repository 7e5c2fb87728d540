"""Turns an exception into an exit code and the message that the user sees.

0    done
1    a bug, in curate or in a plugin
2    the request cannot work: usage, configuration, plan, plugins
3    more records have failed than the run's error budget allows
4    the machine failed: disk full, device gone, model missing
5    the run has reached its end, but nothing was kept, or a stage failed on most of its records
130  interrupted by Ctrl-C
143  terminated by SIGTERM
"""

from __future__ import annotations

import traceback

import click
from rich.text import Text

from curate.cli.interruption import Terminated
from curate.cli.session import new_console
from curate.errors import (
    EXIT_BUDGET,
    EXIT_BUG,
    EXIT_INFRASTRUCTURE,
    EXIT_INTERRUPTED,
    EXIT_NO_RESULT,
    EXIT_TERMINATED,
    EXIT_USAGE,
    BudgetExceededError,
    InfrastructureError,
    UsageError,
)


def report(error: BaseException, *, debug: bool) -> int:
    """Print one clear block about an error to standard error, and return the exit code that goes with it."""
    if isinstance(error, click.Abort) and error.__cause__ is not None:
        error = error.__cause__  # click's for Ctrl-C and for the end of the input
    if isinstance(error, click.Abort | KeyboardInterrupt | EOFError):
        terminated = isinstance(error, Terminated)
        _print(_with_notes("terminated" if terminated else "interrupted", error))
        return EXIT_TERMINATED if terminated else EXIT_INTERRUPTED
    if isinstance(error, click.ClickException):
        _print(_click_message(error))
        return EXIT_USAGE
    if debug:
        new_console(stderr=True).print("".join(traceback.format_exception(error)), end="", soft_wrap=True)
    if isinstance(error, UsageError):
        _print(str(error))
        return EXIT_USAGE
    if isinstance(error, BudgetExceededError):
        _print(str(error))
        return EXIT_BUDGET
    if isinstance(error, InfrastructureError):
        _print(_with_notes(str(error), error))
        return EXIT_INFRASTRUCTURE
    last_line = "".join(traceback.format_exception_only(error)).strip()
    how = "" if debug else "\nTo see where it comes from: curate --debug …"
    _print(f"this is a bug in curate or a plugin\n{last_line}{how}")
    return EXIT_BUG


def _with_notes(message: str, error: BaseException) -> str:
    return "\n".join([message, *getattr(error, "__notes__", ())])


def report_problem(problem: str) -> int:
    """Print the problem of a run that has reached its end, and return the exit code that goes with it."""
    _print(problem)
    return EXIT_NO_RESULT


def _print(message: str) -> None:
    first, newline, rest = message.partition("\n")
    text = Text.assemble(("error: ", "bold red"), first, newline, rest)
    new_console(stderr=True).print(text, soft_wrap=True)


def _click_message(error: click.ClickException) -> str:
    message = error.format_message()
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    root = error.ctx.find_root()
    option = error.option_name if isinstance(error, click.NoSuchOption) else None
    if option and error.ctx is not root and any(option in parameter.opts for parameter in root.command.params):
        verb = error.ctx.info_name
        return f"{option} is an option of curate itself, so it comes before the verb: curate {option} … {verb} …"
    return f"{message}\nTry: {error.ctx.command_path} --help"
