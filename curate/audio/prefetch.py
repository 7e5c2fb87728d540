"""Prefetching of audio: the next records are decoded in the background while the caller computes on this one."""

from __future__ import annotations

import math
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from curate.audio.audio import DEFAULT_RATE_HZ
from curate.audio.cache import RecordingCache
from curate.audio.files import Roots, classify_os_error
from curate.audio.settings import DEFAULT_AUDIO_SETTINGS, AudioSettings
from curate.audio.spool import TemporarySpool
from curate.errors import InfrastructureError, RecordError

if TYPE_CHECKING:
    from curate.audio.sndfile import Samples

    Record: TypeAlias = dict[str, Any]
    Load: TypeAlias = Callable[[Record], Samples]

DEFAULT_MAX_AUDIO_S = 600.0
"""Ten minutes: 38 MB of float32 at 16 kHz."""

ASSUMED_DURATION_S = 15.0
"""The length assumed of a record without a usable `duration` before it is decoded: a rather long utterance."""

LEAST_DURATION_S = 0.1
"""The least length that any record counts as, so that durations of 0, or broken files, do not let the queue grow."""


def load_ahead(
    records: Iterable[Record],
    *,
    max_audio_s: float = DEFAULT_MAX_AUDIO_S,
    threads: int = 2,
    load: Load | None = None,
    rate_hz: int = DEFAULT_RATE_HZ,
    roots: Roots = None,
    filepath_key: str = "audio_filepath",
    settings: AudioSettings = DEFAULT_AUDIO_SETTINGS,
    recordings: RecordingCache | None = None,
) -> Generator[tuple[Record, Samples | RecordError], None, None]:
    """Yield every record with its samples, in the order of `records`, loading ahead of the caller.

    A record that is itself at fault is yielded with its `RecordError` instead of samples; the others are not affected.
    The audio that waits for the caller, decoded or being decoded, is at most `max_audio_s` long. Until a record's true
    length is known its `duration` counts, so at most `threads` records can exceed the bound by the error of their
    durations. A record longer than the bound is loaded when nothing else is held. Samples that the caller has taken
    no longer count.

    `records` is read in the caller's thread, at most another `max_audio_s` ahead, so an endless generator is fine.
    When the generator is closed or fails, it waits for the at most `threads` running loads, and leaves no thread
    behind.

    Args:
        records: dicts; each is yielded as it is, once.
        max_audio_s: seconds of decoded audio that may wait for the caller.
        threads: how many records are decoded at the same time.
        load: makes float32 mono samples at `rate_hz` from a record, in several threads; None means `load_record`.
        rate_hz, roots, filepath_key, settings: as in `load_record`. With `load`, only `rate_hz` counts, which
            turns samples into seconds.
        recordings: where the recordings of segments are decoded once for all of their segments; None is a cache and a
            spool for this call alone. With a cache, its `roots`, `filepath_key` and `settings` count.

    Raises:
        InfrastructureError: when the record that met it is due.
        ValueError: `max_audio_s` or `threads` is out of range.
        MemoryError, and any error of `records`: when that record is due.
    """
    if not 0 < max_audio_s < math.inf:
        raise ValueError(f"max_audio_s must be positive and finite, not {max_audio_s!r}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads!r}")
    if load is not None:
        return _run(_Loader(load, max_audio_s, rate_hz), iter(records), threads, filepath_key)
    if recordings is not None:
        loader = _Loader(partial(recordings.take_samples, rate_hz=rate_hz), max_audio_s, rate_hz)
        return _run(loader, iter(records), threads, filepath_key)
    return _run_with_spool(iter(records), max_audio_s, threads, rate_hz, roots, filepath_key, settings)


def _run_with_spool(
    records: Iterator[Record],
    max_audio_s: float,
    threads: int,
    rate_hz: int,
    roots: Roots,
    filepath_key: str,
    settings: AudioSettings,
) -> Generator[tuple[Record, Samples | RecordError], None, None]:
    with (
        closing(TemporarySpool()) as spool,
        RecordingCache(settings=settings, filepath_key=filepath_key, roots=roots, spool=spool) as recordings,
    ):
        loader = _Loader(partial(recordings.take_samples, rate_hz=rate_hz), max_audio_s, rate_hz)
        yield from _run(loader, records, threads, filepath_key)


def _run(
    loader: _Loader, records: Iterator[Record], threads: int, filepath_key: str
) -> Generator[tuple[Record, Samples | RecordError], None, None]:
    # Daemon threads: a generator that is never closed must not keep the interpreter from exiting.
    workers = [
        threading.Thread(target=loader.work, name=f"curate-audio-{number}", daemon=True) for number in range(threads)
    ]
    failure: BaseException | None = None
    more = True
    try:
        for worker in workers:
            worker.start()
        while True:
            while more and loader.has_room():
                try:
                    loader.submit(next(records))
                except StopIteration:
                    more = False
                except BaseException as error:  # noqa: BLE001 - raised below, after the records before it
                    failure, more = error, False
            if loader.is_empty():
                break
            # No local variable: while the caller computes, only the caller holds the samples.
            yield _deliver(loader.take(), filepath_key)
        if failure is not None:
            raise failure
    finally:
        loader.stop()
        for worker in workers:
            if worker.ident is not None:
                worker.join()


class _Job:
    """A record that is waiting, being loaded, or loaded."""

    __slots__ = ("outcome", "record", "seconds")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.seconds = _expected_seconds(record)
        self.outcome: Samples | BaseException | None = None


class _Loader:
    """The queue of jobs between the caller and the threads: first in, first started, first out.

    A job waits, is held (being decoded, or decoded and not yet taken), and is taken. Jobs start in order, so whenever
    the caller waits for a job that has not started, nothing is held, and the job may start whatever its length.

    One thread is woken for one job: waking all of them, and the caller, at each change costs more than reading a WAV.
    """

    def __init__(self, load: Load, max_audio_s: float, rate_hz: int) -> None:
        self._load = load
        self._max_s = max_audio_s
        self._rate_hz = rate_hz
        self._lock = threading.Lock()
        self._startable = threading.Condition(self._lock)  # the threads wait for a job that may start
        self._finished = threading.Condition(self._lock)  # the caller waits for the oldest job
        self._jobs: deque[_Job] = deque()
        self._waiting: deque[_Job] = deque()
        self._waiting_s = 0.0
        self._held: list[float] = []
        self._stopping = False

    def has_room(self) -> bool:
        """Return whether another record should be read. Caller's thread."""
        with self._lock:
            return not self._jobs or self._waiting_s < self._max_s

    def submit(self, record: Record) -> None:
        """Queue a record. Caller's thread."""
        job = _Job(record)
        with self._lock:
            self._jobs.append(job)
            self._waiting.append(job)
            self._waiting_s += job.seconds
            self._wake_thread()

    def is_empty(self) -> bool:
        """Return whether every submitted record has been taken. Caller's thread."""
        return not self._jobs

    def take(self) -> _Job:
        """Wait for the oldest job. Caller's thread."""
        with self._lock:
            job = self._jobs[0]
            self._finished.wait_for(lambda: job.outcome is not None)
            self._jobs.popleft()
            self._held.remove(job.seconds)
            self._wake_thread()
            return job

    def work(self) -> None:
        """Load the jobs that may start until `stop` is called: the main loop of a thread."""
        while (job := self._next()) is not None:
            try:
                outcome: Samples | BaseException = self._load(job.record)
            except BaseException as error:  # noqa: BLE001 - delivered to the caller at the record's place
                _forget_locals(error)
                outcome = error
            self._finish(job, outcome)
            del job, outcome  # an idle thread must not keep a finished record's samples alive

    def stop(self) -> None:
        """Make the threads end after their current job."""
        with self._lock:
            self._stopping = True
            self._startable.notify_all()

    def _next(self) -> _Job | None:
        with self._lock:
            self._startable.wait_for(lambda: self._stopping or self._may_start())
            if self._stopping:
                return None
            job = self._waiting.popleft()
            self._waiting_s = self._waiting_s - job.seconds if self._waiting else 0.0
            self._held.append(job.seconds)
            self._wake_thread()  # the next job may have room as well
            return job

    def _wake_thread(self) -> None:
        """Wake a thread that waits, if there is a job for it. The lock is held."""
        if self._may_start():
            self._startable.notify()

    def _may_start(self) -> bool:
        return bool(self._waiting) and (
            not self._held or math.fsum(self._held) + self._waiting[0].seconds <= self._max_s
        )

    def _finish(self, job: _Job, outcome: Samples | BaseException) -> None:
        length = 0.0 if isinstance(outcome, BaseException) else len(outcome) / self._rate_hz
        with self._lock:
            self._held.remove(job.seconds)
            job.seconds = max(length, LEAST_DURATION_S)
            self._held.append(job.seconds)
            job.outcome = outcome
            self._finished.notify()
            self._wake_thread()


def _deliver(job: _Job, filepath_key: str) -> tuple[Record, Samples | RecordError]:
    """Return a finished job's samples or the record's own error; raise any other error."""
    outcome = job.outcome
    assert outcome is not None, "take() returns finished jobs only"
    if not isinstance(outcome, BaseException) or isinstance(outcome, RecordError):
        return job.record, outcome
    if isinstance(outcome, InfrastructureError | MemoryError) or not isinstance(outcome, Exception):
        raise outcome
    if isinstance(outcome, OSError):
        fault = classify_os_error(outcome, job.record.get(filepath_key))
    else:
        fault = RecordError("stage_error", f"loading the audio failed: {type(outcome).__name__}: {outcome}")
    if isinstance(fault, InfrastructureError):
        raise fault from outcome
    fault.__cause__ = outcome
    return job.record, fault


def _forget_locals(error: BaseException) -> None:
    """Free the arrays that the frames of a traceback hold, but not its lines: a stored error must not keep audio."""
    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__


def _expected_seconds(record: Record) -> float:
    duration: object = record.get("duration")
    if isinstance(duration, bool) or not isinstance(duration, (int, float)) or not 0 < duration < 1e12:
        return ASSUMED_DURATION_S
    return max(float(duration), LEAST_DURATION_S)
