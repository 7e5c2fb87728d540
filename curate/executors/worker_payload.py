"""What a worker is given at its start: copies of a hop's stages, and what it has to know.

Classes and functions of `__main__`, notebooks and plugins-files travel by value, because a worker could not import
them; everything else travels by its name.
"""

from __future__ import annotations

import functools
import importlib.machinery
import platform
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType
from typing import Any

import attrs
import cloudpickle as _cloudpickle

from curate._version import __version__
from curate.engine.protocol.transport import Blamed, HopSpec
from curate.executors.local import tried
from curate.fingerprint import distributions
from curate.plan import Plan
from curate.stage import ProcessingStage, Stage, WorkerContext
from curate.storage import Scheme

cloudpickle: Any = _cloudpickle  # it has no type stubs


@attrs.frozen
class WorkerPayload:
    """What a worker is given.

    Args:
        hop: the hop's name, for messages.
        stages: pickled by cloudpickle.
        count: how many they are.
        sys_path: where the driver finds its modules.
        context: what the stages may know about the run.
        schemes: the storage schemes of the plugins, pickled by cloudpickle.
        encodes: whether kept records become lines of JSON.
        blamed: the stages that are named when a record cannot be encoded or sent.
        gpu_memory_gb: what a worker needs of its GPU, in GB.
        versions: of Python, curate, and the distributions that the stages come from, in the driver; they are compared
            with the worker's.
    """

    hop: str
    stages: bytes
    count: int
    sys_path: tuple[str, ...]
    context: WorkerContext
    schemes: bytes
    encodes: bool
    blamed: Blamed
    gpu_memory_gb: float
    versions: Mapping[str, str]


def make_payload(spec: HopSpec, *, elsewhere: bool = False) -> WorkerPayload:
    """Return the payload of a worker of a hop.

    Args:
        spec: the hop.
        elsewhere: workers may be on other machines, so they compare the versions of what they have.

    Raises:
        PlanError: names the stage and the field that cannot be sent.
    """
    stages = [planned.stage for planned in spec.hop.stages]
    with _by_value(stages, spec.context.schemes.values()):
        for stage in stages:
            _check_sendable(stage)
        packed: bytes = cloudpickle.dumps(stages, protocol=5)
        schemes: bytes = cloudpickle.dumps(dict(spec.context.schemes), protocol=5)
    return WorkerPayload(
        hop=spec.hop.name,
        stages=packed,
        count=len(stages),
        sys_path=tuple(sys.path),
        context=attrs.evolve(spec.context, schemes={}),
        schemes=schemes,
        encodes=spec.encodes,
        blamed=dict(spec.blamed),
        gpu_memory_gb=spec.hop.resources.gpu_memory_gb,
        versions=versions_of(stages) if elsewhere else {},
    )


def check_sendable(plan: Plan) -> None:
    """Check that every stage which works in a worker can be sent to one.

    Raises:
        PlanError: names the stage and the field that cannot be sent.
    """
    stages = [planned.stage for planned in plan.stages if isinstance(planned.stage, ProcessingStage)]
    with _by_value(stages):
        for stage in stages:
            _check_sendable(stage)


def _check_sendable(stage: ProcessingStage) -> None:
    tried(stage, functools.partial(cloudpickle.dumps, protocol=5), "sent to a worker")


def versions_of(stages: Iterable[Stage]) -> dict[str, str]:
    """Return the versions of Python, of curate and of the distributions that stages come from."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2]), "curate-speech": __version__}
    for stage in stages:
        for module in _modules_with_code(stage):
            for name in distributions().get(module.partition(".")[0], ())[:1]:
                found[name] = metadata.version(name)
    return found


@contextmanager
def _by_value(stages: Sequence[Stage], schemes: Iterable[Scheme] = ()) -> Generator[None]:
    """Let cloudpickle send the code of modules that a worker could not import."""
    registered: list[ModuleType] = []
    already: Any = cloudpickle.list_registry_pickle_by_value()
    stores = {str(getattr(getattr(scheme, "cls", None), "__module__", "")) for scheme in schemes}
    for module in _modules_of(stages, stores):
        if module.__name__ not in already:
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _modules_of(stages: Sequence[Stage], more: Iterable[str] = ()) -> list[ModuleType]:
    """Return the modules with code of the stages, and `more`, that only this process has: a plugins-file, a module made
    by hand."""
    names = set(more) | {name for stage in stages for name in _modules_with_code(stage)}
    names |= {str(getattr(value, "__module__", "")) for stage in stages for value in vars(stage).values()}
    return [sys.modules[name] for name in sorted(names) if name in sys.modules and not _is_importable(name)]


def _modules_with_code(stage: Stage) -> set[str]:
    """Return the modules of the classes, bases included, that a stage and the stages in its settings are made of: their
    own, and those that names in their settings were resolved to.
    """
    inner = [value for value in vars(stage).values() if isinstance(value, Stage)]
    code: list[Any] = [type(stage), *(found.value for found in stage.resolved.values())]
    classes = [cls for each in code for cls in (each.__mro__ if isinstance(each, type) else (each,))]
    return {str(getattr(each, "__module__", "")) for each in classes}.union(*map(_modules_with_code, inner))


def _is_importable(name: str) -> bool:
    if name == "__main__":
        return True  # cloudpickle sends it by value anyway
    module = sys.modules[name]
    spec = getattr(module, "__spec__", None)
    if name in sys.builtin_module_names or (spec is not None and spec.origin in ("built-in", "frozen")):
        return True
    try:
        # `find_spec` would be content with what is loaded already
        parent, _, last = name.rpartition(".")
        if parent:
            return last != "" and _is_importable(parent)
        found = importlib.machinery.PathFinder.find_spec(name)
    except (ImportError, ValueError, KeyError):
        return False
    return found is not None
