"""Telling observers about a run, one at a time, so that a faulty one harms nobody but itself."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pluggy
from loguru import logger

from curate.errors import PluginError
from curate.plugin.hooks import ANNOUNCING, functions, register, unregister


class Observers:
    """The plugins and in-process objects that listen to runs."""

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._manager = manager

    def add(self, observer: object) -> str:
        """Add an object whose `curate_on_*` methods carry `@hookimpl`, and return the name it goes by.

        Raises:
            PluginError: its hooks are wrong, or it is listening already.
        """
        name = f"observer {type(observer).__qualname__} at {id(observer):#x}"
        register(self._manager, observer, name)
        try:
            for hook in ANNOUNCING:
                if functions(self._manager, hook, observer):
                    raise PluginError(f"{name} answers {hook}, but only plugins announce things")
        except PluginError:
            self.remove(name)
            raise
        return name

    def remove(self, name: str) -> None:
        """Take an observer out; one that has been left out already is fine."""
        unregister(self._manager, name)

    @contextmanager
    def listening(self, *observers: object) -> Generator[None]:
        """Add observers for the length of a `with` block."""
        with ExitStack() as added:
            for observer in observers:
                added.callback(self.remove, self.add(observer))
            yield

    def tell(self, hook: str, event: object) -> None:
        """Call an observer hook of everybody who has it; whoever raises is reported and left out from then on."""
        for implementation in functions(self._manager, hook):
            function = cast("Callable[..., Any]", implementation.function)
            if not self._manager.has_plugin(implementation.plugin_name):
                continue  # left out a moment ago, by another function of the same observer
            try:
                function(*(event for _ in implementation.argnames))
            except Exception:  # noqa: BLE001 (a stranger's code; whatever it raises, the run goes on)
                self.remove(implementation.plugin_name)
                logger.opt(exception=True).warning(
                    "{} raised in {}; it is left out from now on, and the run goes on", implementation.plugin_name, hook
                )
