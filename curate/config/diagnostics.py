"""Mistakes in a configuration: the place of each, what is wrong, and what to write instead."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import attrs

from curate.errors import ConfigError


@attrs.frozen
class SourceLocation:
    """Where something was written: a file with line and column, or an option of the command line.

    Args:
        source: the file as the user named it, or the option, such as `--set stages.asr.workers`.
        line: counted from 1; 0 if the source has no lines.
        column: counted from 1; 0 if the source has no lines.
    """

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@attrs.frozen
class Source:
    """A file, or the value of an option, in which lines and columns would mean nothing to the user."""

    name: str
    has_lines: bool = True

    def place(self, line: int, column: int) -> SourceLocation:
        """Return the place of a character, both counted from 1."""
        return SourceLocation(self.name, line, column) if self.has_lines else SourceLocation(self.name)


def config_error(place: SourceLocation, message: object) -> ConfigError:
    """Return the error for one mistake; its message begins with the place.

    It is one line, unless it shows a place in an expression by a caret, which has to stay under it.
    """
    text = str(message)
    shows_place = any(line.strip() == "^" for line in text.splitlines())
    return ConfigError(f"{place}: {text if shows_place else ' '.join(text.split())}")


@attrs.define
class ErrorCollector:
    """Collects mistakes, so that a user sees all of them together, one per line."""

    messages: list[str] = attrs.field(factory=list[str])

    @contextmanager
    def collected(self) -> Generator[None, None, None]:
        """Collect a ConfigError of the block, and continue after the block."""
        try:
            yield
        except ConfigError as error:
            self.messages.append(str(error))

    def end(self) -> None:
        """Raise one ConfigError with all collected messages, if there are any."""
        if self.messages:
            raise ConfigError("\n".join(dict.fromkeys(self.messages)))
