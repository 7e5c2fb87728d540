"""The base class of models over audio."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from curate.models.capabilities import ModelCapabilities
from curate.models.clip import Clip
from curate.models.resources import ModelResources
from curate.models.torch_device import torch_capabilities

Row: TypeAlias = Mapping[str, Any]
"""The columns that a model adds to the record of one clip."""

Rows: TypeAlias = Sequence[Row]


class AudioModel:
    """A model over audio: clips in, one row of columns for each clip out. Define `infer(clips)`.

    An instance holds settings, and is cheap to make and to copy, until `setup` loads the model in a worker. Batches of
    similar length, loading ahead, splitting of batches that do not fit into memory, measurements, and a thread of its
    own come with the stage that runs it: `AudioModelStage`, or `asr` for a model that writes `text`.
    """

    rate_hz: int = 16_000
    """The sampling rate of the clips; final when `setup` has returned."""

    writes: Sequence[str] = ()
    """The columns of each row: no others, and none left out. Final when the model has been made."""

    resources: ModelResources = ModelResources()
    """The device, the number format and the threads to use, as the stage's resources say; set before `setup`."""

    def setup(self) -> None:
        """Load the model; called once in each worker, in the model's thread.

        Raises:
            InfrastructureError: it cannot be loaded on this machine; no record is to blame.
        """

    def infer(self, clips: Sequence[Clip]) -> Rows | Callable[[], Rows]:
        """Return the rows of a batch, one for each clip in the same order, or a function that makes them.

        The row of a clip does not depend on its neighbours. A function is called once, in another thread while the
        model works on the next batch: there belongs what needs neither model nor device, such as spelling out tokens.
        It must not hold memory of the device.

        Args:
            clips: never none; clips of digital silence and of a few samples are among them.

        Raises:
            RecordError: a clip cannot be processed by any means. The engine halves the batch to find out which.
            InfrastructureError: the trouble is not the clips'.
            RuntimeError, MemoryError: as the library raises it where memory runs out: the batch is split.
        """
        raise NotImplementedError(f"{type(self).__name__} must define infer(clips)")

    def excerpts(self, duration_s: float) -> Sequence[tuple[float, float]] | None:
        """Return the parts of a recording that are loaded, `(start, end)` in seconds, in order; None: all of it.

        A model that needs some minutes of a recording keeps hours of it out of memory. The clip has the parts joined.

        Args:
            duration_s: the length of the recording or segment.
        """
        return None

    def close(self) -> None:
        """Release the model and its memory. `setup` may be called again."""

    def capabilities(self) -> ModelCapabilities:
        """Return the capabilities of the model in addition to `infer`; asked once, after `setup`.

        By default, the memory of torch's allocator is measured where the resources are a GPU and torch is in use.
        """
        return torch_capabilities(self.resources)


HOW_TO_WRITE = """\
    from curate.models import AudioModel

    class {name}(AudioModel):
        def setup(self): ...                # load the model; self.resources has device, dtype and threads

        def infer(self, clips):             # clip.samples: float32, mono, at rate_hz; clip.record: its columns
            return [{{"text": ...}} for clip in clips]

        def close(self): ...

docs/plugins.md describes it under "A model" and "A recogniser"."""

_OLD_METHODS = ("transcribe", "begin")


def describe_misfit(found: Any) -> str | None:
    """Return why a class, or an instance, is not an `AudioModel`, and how one is written; None: it is one."""
    cls: type[Any] = cast("type[Any]", found if isinstance(found, type) else type(found))
    if issubclass(cls, AudioModel):
        return None
    old = next((f"{method}()" for method in _OLD_METHODS if callable(getattr(cls, method, None))), None)
    reason = (
        f"{cls.__qualname__} is written to the earlier interface of recognisers, whose {old} is never called any more"
        if old is not None
        else f"{cls.__qualname__} is not a subclass of curate.models.AudioModel"
    )
    return f"{reason}. Write it as\n\n{HOW_TO_WRITE.format(name=cls.__name__)}"
