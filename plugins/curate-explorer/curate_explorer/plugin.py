"""What this distribution adds to curate."""

from __future__ import annotations

from curate.plugin import CommandRef, hookimpl


@hookimpl
def curate_commands() -> list[CommandRef]:
    return [CommandRef("explore", "curate_explorer.command:explore", "Look at, hear and label records in a browser")]
