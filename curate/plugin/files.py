"""A plugin without packaging: one Python file, named on the command line.

The file may answer hooks like any plugin. Its stages need not be announced: every stage class and every decorated
function at its top level goes by its own `name`. The user named the file, so a broken one is an error
immediately.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from curate.errors import PluginError
from curate.plugin.references import Reference, StageRef
from curate.plugin.status import FILE_MODULE
from curate.stage import Stage
from curate.stage_decorator import BatchFunctionStage, RecordFunctionStage


def import_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own, and return it.

    The module's name is made of the path and the content, and stays in `sys.modules`: so classes can be found and
    pickled by value, and two hosts in one process share them as long as the file has not changed.

    Raises:
        PluginError: the file is missing or broken; the message begins with the file and the line.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PluginError(f"{path}: this plugins-file cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(bytes(path.resolve()) + b"\0" + source).hexdigest()[:12]
    stem = re.sub(r"\W", "_", path.stem)
    name = f"{FILE_MODULE}{stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    loader = SourceFileLoader(name, str(path.resolve()))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = loader.path
    sys.modules[name] = module
    try:
        # Not loader.exec_module: it would write bytecode next to the user's file, and trust what lies there.
        exec(loader.source_to_code(source, loader.path), vars(module))  # noqa: S102
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise broken(path, error) from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def broken(path: Path, error: BaseException) -> PluginError:
    """Return the error that says on which line a plugins-file went wrong."""
    own = str(path.resolve())
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    if isinstance(error, SyntaxError) and error.filename == own:
        lines.append(error.lineno)
    place = f"{path}:{lines[-1]}" if lines else f"{path}"
    what = f"{error.msg}" if isinstance(error, SyntaxError) else f"{error}"
    prefix = "" if isinstance(error, PluginError) else f"{type(error).__name__}: "
    return PluginError(f"{place}: {prefix}{what}")


def top_level_stages(module: ModuleType, announced: tuple[Reference, ...]) -> tuple[StageRef, ...]:
    """Return references to the stages that a file defines and does not announce by a hook.

    Raises:
        PluginError: two stages of one name.
    """
    targets = {reference.target for reference in announced}
    taken = {reference.name: reference.target for reference in announced if isinstance(reference, StageRef)}
    found: list[StageRef] = []
    for attribute, value in _own_stages(module):
        target = f"{module.__name__}:{attribute}"
        if target in targets:
            continue
        if value.name in taken:
            first = taken[value.name].partition(":")[2]
            raise PluginError(f"two stages are called {value.name!r}: {first} and {attribute}; rename one (`name = …`)")
        taken[value.name] = target
        found.append(StageRef(value.name, target, _summary(value)))
    return tuple(found)


def _own_stages(module: ModuleType) -> Iterator[tuple[str, Stage | type[Stage]]]:
    seen: set[int] = set()
    for attribute, value in vars(module).items():
        stage = _stage_of(module, value)
        if stage is not None and not attribute.startswith("_") and id(stage) not in seen:
            seen.add(id(stage))
            yield attribute, stage


def _stage_of(module: ModuleType, value: Any) -> Stage | type[Stage] | None:
    """Return a value of the file if it is a stage that the file itself defines, and has not imported."""
    if isinstance(value, type):
        return value if issubclass(value, Stage) and value.__module__ == module.__name__ else None
    decorated = isinstance(value, BatchFunctionStage | RecordFunctionStage)
    return value if decorated and value.function.__module__ == module.__name__ else None


def _summary(stage: Stage | type[Stage]) -> str:
    if isinstance(stage, BatchFunctionStage | RecordFunctionStage):
        text = stage.function.__doc__
    else:
        text = vars(stage).get("__doc__")
        if text is not None and text.startswith(f"{getattr(stage, '__name__', '')}("):  # written by @dataclass
            text = None
    return (text or "").strip().partition("\n")[0]
