"""Decoded recordings in files, for formats in which a segment cannot be found without decoding what is before it.

A recording is decoded once for all processes of a node: the first that needs it decodes it under a lock, and the others
wait for its file. Segments are then read by position, in any order. The files are scratch: they may be deleted at any
time, and are not synchronised to disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from loguru import logger

from curate.audio.spool_folder import PREFIX, SpoolFolder, node_name
from curate.errors import InfrastructureError, RecordError

if TYPE_CHECKING:
    from curate.audio.sndfile import Samples

DEFAULT_SPOOL_BYTES = 32 * 10**9
"""50 hours of mono at 44.1 kHz with 32 bits, twice that with 16."""

_HEADER_BYTES = 4096
_CHECKED_BYTES = 64 * 2**20
_POLL_S = 0.05
_INT16_SCALE = 32768.0


@attrs.frozen
class SpoolFormat:
    """How the frames of a recording are stored: 16-bit integers where the recording has no more, else float32."""

    channels: int
    is_int16: bool

    @property
    def frame_bytes(self) -> int:
        return self.channels * (2 if self.is_int16 else 4)


class SpooledFrames:
    """The decoded frames of one recording, read by position from a file of the spool.

    Attributes:
        frames: how many there are.
        failure: what is raised for a segment that reaches behind them, when the recording is damaged there.
    """

    def __init__(self, fd: int, form: SpoolFormat, frames: int, failure: RecordError | None) -> None:
        self._fd = fd
        self._format = form
        self.frames = frames
        self.failure = failure

    def read(self, position: int, frames: int) -> Samples:
        """Return at most `frames` frames from `position` as float32 `(frames, channels)`; none behind the end."""
        import numpy as np

        frames = max(0, min(frames, self.frames - position))
        size = self._format.frame_bytes
        raw = _pread(self._fd, frames * size, _HEADER_BYTES + position * size)
        if self._format.is_int16:
            return np.frombuffer(raw, "<i2").astype(np.float32).reshape(-1, self._format.channels) / np.float32(
                _INT16_SCALE
            )
        return np.frombuffer(raw, "<f4").reshape(-1, self._format.channels)

    def close(self) -> None:
        """Close the file; it stays in the spool."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Spool:
    """A folder of decoded recordings that the processes of a node share.

    Args:
        folder: where; made when it is first needed. On a disk of this node.
        max_bytes: the most that the folder may hold. The files used least recently go first; a recording that does not
            fit alone is not stored.
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int = DEFAULT_SPOOL_BYTES) -> None:
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes!r}")
        self._folder = Path(folder)
        self._shared = SpoolFolder(self._folder)
        self._holding = threading.Lock()
        self._max_bytes = max_bytes
        self._is_too_small = False

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder

    def open(
        self,
        key: object,
        form: SpoolFormat,
        decode: Callable[[], Iterable[Samples]],
        on_wait: Callable[[], None],
    ) -> SpooledFrames | None:
        """Return a recording's frames; decode them first, unless another process has done so or is doing it.

        Args:
            key: what identifies the recording in its present state.
            form: how its frames are stored.
            decode: yields its frames from the first; a `RecordError` on the way is stored as the end of what is good.
            on_wait: called while another process makes progress with decoding.

        Returns:
            None when the recording is larger than the spool may be.

        Raises:
            InfrastructureError: the folder cannot be written.
        """
        name = hashlib.sha256(repr(("1", key)).encode("utf-8", "surrogatepass")).hexdigest()[:40]
        path = self._folder / f"{name}.frames"
        try:
            with self._holding:
                self._shared.hold()
            found = self._opened(path)
            if found is not None:
                return found.value
            with self._locked(self._folder / f"{name}.lock", path.with_suffix(".part"), on_wait):
                found = self._opened(path)
                if found is None:
                    self._write(path, form, decode)
                    found = self._opened(path)
        except OSError as error:
            raise InfrastructureError(self._describe(error)) from error
        # Evicted by another process already: the spool is too small for all that decode at the same time.
        return None if found is None else found.value

    def close(self) -> None:
        """Remove the folder, unless another process uses it."""
        with self._holding:
            self._shared.release()

    def _describe(self, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"the spool {self._folder} is full ({error.strerror}): free space on its disk, choose a larger one "
                "with --spool-dir (`spool_dir:`), or let it hold less with --spool-gb (`spool_gb:`)"
            )
        return (
            f"the spool {self._folder} cannot be used ({error}): choose a folder that can be written, on a disk of "
            "each node, with --spool-dir (`spool_dir:`)"
        )

    @staticmethod
    def remove(folder: str | os.PathLike[str]) -> None:
        """Delete a spool with all its files, at the end of the run that made it."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)

    def _opened(self, path: Path) -> _Found | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        header: dict[str, Any] = json.loads(os.pread(fd, _HEADER_BYTES, 0).rstrip(b"\0"))
        if header["frames"] is None:
            os.close(fd)
            return _Found(None)
        os.utime(fd)  # by its descriptor: another process may have made room meanwhile, and the file stays readable
        failure = header["failure"]
        form = SpoolFormat(channels=header["channels"], is_int16=header["is_int16"])
        return _Found(SpooledFrames(fd, form, header["frames"], None if failure is None else RecordError(*failure)))

    @contextlib.contextmanager
    def _locked(self, lock: Path, part: Path, on_wait: Callable[[], None]) -> Generator[None]:
        """Hold the lock of a recording. It goes with the process: one that is killed leaves no lock behind."""
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            seen = -1
            pause = threading.Event()
            while not _try_lock(fd):
                with contextlib.suppress(FileNotFoundError):
                    size = part.stat().st_size
                    if size != seen:
                        on_wait()
                    seen = size
                pause.wait(_POLL_S)
            yield
        finally:
            os.close(fd)

    def _write(self, path: Path, form: SpoolFormat, decode: Callable[[], Iterable[Samples]]) -> None:
        part = path.with_suffix(".part")
        try:
            self._write_part(part, form, decode)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        part.replace(path)

    def _write_part(self, part: Path, form: SpoolFormat, decode: Callable[[], Iterable[Samples]]) -> None:
        frames: int | None = 0
        failure: tuple[str, str] | None = None
        with part.open("wb") as file:
            file.write(bytes(_HEADER_BYTES))
            unchecked = 0
            try:
                for block in decode():
                    stored = _stored(block, form)
                    unchecked += len(stored)
                    if unchecked >= _CHECKED_BYTES:
                        if not self._make_room(part, file.tell() + len(stored)):
                            frames = None
                            break
                        unchecked = 0
                    file.write(stored)
                    frames += len(block)
            except RecordError as error:
                failure = (error.code, str(error)[: _HEADER_BYTES // 8])
            if frames is not None and not self._make_room(part, file.tell()):
                frames = None
            if frames is None:
                file.seek(0)
                file.truncate()
            file.seek(0)
            header = {"frames": frames, "failure": failure, **attrs.asdict(form)}
            file.write(json.dumps(header).encode().ljust(_HEADER_BYTES, b"\0"))

    def _make_room(self, part: Path, size: int) -> bool:
        """Delete the files used least recently until `part` fits with its size; False when it cannot."""
        if size > self._max_bytes:
            if not self._is_too_small:
                self._is_too_small = True
                logger.warning(
                    "a recording takes more than the {:.3g} GB that the spool may hold, so it is decoded again for its "
                    "segments; --spool-gb (`spool_gb:`) raises the bound",
                    self._max_bytes / 1e9,
                )
            return False
        found: list[tuple[int, int, Path]] = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if path.suffix in (".frames", ".part") and path != part:
                    found.append((status.st_mtime_ns, status.st_size, path))
        total = size + sum(each for _, each, _ in found)
        for _, each, path in sorted(found):
            if total <= self._max_bytes:
                break
            if path.suffix == ".frames":
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                total -= each
        return total <= self._max_bytes


class TemporarySpool(Spool):
    """A spool of one process, in a folder of its own that `close` removes."""

    def __init__(self, max_bytes: int = DEFAULT_SPOOL_BYTES) -> None:
        super().__init__(Path(tempfile.gettempdir()) / f"{PREFIX}{os.urandom(8).hex()}" / node_name(), max_bytes)


@attrs.frozen
class _Found:
    """A file of the spool; without a value for a recording that is too large to be stored."""

    value: SpooledFrames | None


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _stored(block: Samples, form: SpoolFormat) -> bytes:
    import numpy as np

    if form.is_int16:
        return (block * np.float32(_INT16_SCALE)).astype("<i2").tobytes()
    return block.astype("<f4", copy=False).tobytes()


def _pread(fd: int, length: int, offset: int) -> bytes:
    parts: list[bytes] = []
    try:
        while length > 0 and (part := os.pread(fd, length, offset)):
            parts.append(part)
            length -= len(part)
            offset += len(part)
    except OSError as error:
        raise InfrastructureError(f"the spool cannot be read: {error}") from error
    if length > 0:
        raise InfrastructureError("a file of the spool is shorter than when it was written")
    return b"".join(parts)
