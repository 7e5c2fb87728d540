"""From native blocks to one channel at another rate, in pieces whose lengths add up to the exact one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from curate.audio.channels import MixedChannels, mixed
from curate.audio.sndfile import Resampler, resampled_frames
from curate.errors import RecordError

if TYPE_CHECKING:
    from curate.audio.sndfile import Samples


def resample_blocks(
    blocks: Iterable[Samples], choice: MixedChannels, name: str, start: int, rate_in_hz: int, rate_out_hz: int
) -> Iterator[Samples]:
    """Yield mono samples at another rate. They do not depend on the borders of the blocks.

    Args:
        blocks: native frames, `(frames, channels)`.
        choice: the channels that are mixed.
        name: of the recording, for messages.
        start: the position of the first frame in the recording.
        rate_in_hz, rate_out_hz: of the blocks and of the result.

    Raises:
        RecordError: `non_finite`; `zero_samples` when the result would have none.
    """
    import numpy as np

    resampler = None if rate_in_hz == rate_out_hz else Resampler(rate_in_hz, rate_out_hz)
    frames = yielded = 0
    pending: Samples | None = None  # the surplus over the exact length is only known at the end
    for block in blocks:
        mono = mixed(block, choice)
        require_finite(mono, name, start + frames, rate_in_hz)
        frames += len(block)
        piece = mono if resampler is None else resampler.push(mono)
        if len(piece):
            if pending is not None:
                yield pending if resampler is None else _checked(pending, name)
                yielded += len(pending)
            pending = piece
    last = np.zeros(0, np.float32) if resampler is None else resampler.finish()
    rest = last if pending is None else np.concatenate([pending, last]) if len(last) else pending
    # libsoxr's own rounding may differ by a sample; the exact length decides.
    length = max(0, resampled_frames(frames, rate_in_hz, rate_out_hz) - yielded)
    if yielded + length == 0:
        raise RecordError("zero_samples", f"{name} is shorter than one sample of the result")
    exact = rest[:length] if len(rest) >= length else np.pad(rest, (0, length - len(rest)))
    yield exact if resampler is None else _checked(exact, name)


def cut_to(pieces: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Yield the same samples in pieces of one size; the last one may be shorter."""
    import numpy as np

    held: list[Samples] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= size:
            joined = np.concatenate(held)
            whole = length - length % size
            for at in range(0, whole, size):
                yield joined[at : at + size]
            held, length = [joined[whole:]], length - whole
    if length:
        yield np.concatenate(held)


def require_finite(block: Samples, name: str, start: int, rate_hz: int) -> None:
    """Raise `non_finite` with the time of the first frame that is NaN or infinite.

    Args:
        block: samples or frames.
        name: of the recording.
        start: the position of the block in the recording.
        rate_hz: of the recording.
    """
    import numpy as np

    finite = np.isfinite(block)
    if not finite.all():
        rows = finite if finite.ndim == 1 else finite.all(axis=1)
        at_s = (start + int(np.argmin(rows))) / rate_hz
        raise RecordError("non_finite", f"{name} holds NaN or infinite samples, the first at {at_s:.3f} s")


def _checked(samples: Samples, name: str) -> Samples:
    import numpy as np

    if not np.isfinite(samples).all():  # samples near the largest float overflow in the filter
        raise RecordError("non_finite", f"{name} holds samples too large to resample")
    return samples
