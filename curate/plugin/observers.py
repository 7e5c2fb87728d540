"""Calls the observers of a run one at a time, so that a faulty one affects only itself."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pluggy
from loguru import logger

from curate.errors import PluginError
from curate.plugin.hooks import ANNOUNCING, ERROR_CODES, functions, register, unregister


class Observers:
    """The plugins and in-process objects whose hooks are called during runs."""

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._manager = manager

    def add(self, observer: object) -> str:
        """Add an object whose `curate_on_*` methods carry `@hookimpl`, and return the name it goes by.

        Raises:
            PluginError: its hooks are wrong, or it is registered already.
        """
        name = f"observer {type(observer).__qualname__} at {id(observer):#x}"
        register(self._manager, observer, name)
        try:
            for hook in (*ANNOUNCING, ERROR_CODES):
                if functions(self._manager, hook, observer):
                    raise PluginError(f"{name} answers {hook}, which only plugins may")
        except PluginError:
            self.remove(name)
            raise
        return name

    def remove(self, name: str) -> None:
        """Remove an observer, if it has not been removed already."""
        unregister(self._manager, name)

    @contextmanager
    def listening(self, *observers: object) -> Generator[None]:
        """Add observers for the length of a `with` block."""
        with ExitStack() as added:
            for observer in observers:
                added.callback(self.remove, self.add(observer))
            yield

    def call(self, hook: str, event: object) -> None:
        """Call a hook of all observers that have it; one that raises is reported and removed."""
        for implementation in functions(self._manager, hook):
            function = cast("Callable[..., Any]", implementation.function)
            if not self._manager.has_plugin(implementation.plugin_name):
                continue  # removed a moment ago, because of another function of the same observer
            try:
                function(*(event for _ in implementation.argnames))
            except Exception:  # noqa: BLE001 (third-party code; whatever it raises, the run continues)
                self.remove(implementation.plugin_name)
                logger.opt(exception=True).warning(
                    "{} raised in {}; it is not called any more, and the run continues",
                    implementation.plugin_name,
                    hook,
                )
