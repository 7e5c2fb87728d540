"""Stages that misbehave on certain records; importable, so that workers elsewhere can have them."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate import AudioBatch, ProcessingStage, RecordStage
from curate.records import Record


def misbehave(how: str) -> None:
    """End or hang this process in one of many ways."""
    match how:
        case "sigkill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
        case "hang":
            time.sleep(3600)
        case "hang in C":  # holds the interpreter's lock, so that no other thread runs
            ctypes.PyDLL(None).sleep(3600)
        case _:
            raise AssertionError(how)


@dataclass
class Misbehaves(RecordStage):
    """Does what a record's column `does` says; before, it makes a file as a sign."""

    sign: str = ""

    def writes(self) -> tuple[str, ...]:
        return ("seen",)

    def process_record(self, record: Record) -> Record:
        if record.get("does"):
            if self.sign:
                Path(self.sign).touch()
            misbehave(record["does"])
        record["seen"] = True
        return record


@dataclass
class EndsWhenAllIsDone(ProcessingStage):
    """Hands on one record after the other, and after the last one ends the process."""

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        for record in batch.data:
            yield batch.with_data([record])
        misbehave("exit")


@dataclass
class MisbehavesInBatches(ProcessingStage):
    """The same for a stage that takes whole batches and announces nothing."""

    def writes(self) -> tuple[str, ...]:
        return ("seen",)

    def process(self, batch: AudioBatch) -> AudioBatch:
        for record in batch.data:
            if record.get("does"):
                misbehave(record["does"])
            record["seen"] = True
        return batch


@dataclass
class MisbehavesAhead(ProcessingStage):
    """The same in a thread that is a part ahead of what is handed on, as a model's loader is."""

    size: int = 4

    def writes(self) -> tuple[str, ...]:
        return ("seen",)

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        for start in range(0, len(batch.data), self.size):
            part = batch.data[start : start + self.size]
            self.context.announce(part)
            worker = threading.Thread(target=self._work, args=(part,))
            worker.start()
            worker.join()
            yield batch.with_data(part)

    def _work(self, part: list[Record]) -> None:
        for record in part:
            if record.get("does"):
                misbehave(record["does"])
            record["seen"] = True


class RefusesToTravel:
    """A value that cannot be pickled, or not unpickled."""

    def __init__(self, when: str) -> None:
        self.when = when

    def __reduce__(self) -> Any:
        if self.when == "pickled":
            raise TypeError("this value stays where it is")
        return _refuse, (self.when, os.getpid())


def _refuse(when: str, maker: int) -> RefusesToTravel:
    if os.getpid() != maker:
        raise ValueError("this value does not arrive")
    return RefusesToTravel(when)


@dataclass
class ReturnsOddities(RecordStage):
    """Puts a value into some records that cannot travel on."""

    when: str = "pickled"

    def writes(self) -> tuple[str, ...]:
        return ("odd",)

    def process_record(self, record: Record) -> Record:
        record["odd"] = RefusesToTravel(self.when) if record["x"] in (3, 30) else None
        return record


@dataclass
class FailsInSetup(RecordStage):
    """Cannot be set up the first `times` times; counted in a file, because every worker has a copy of its own."""

    counter: str
    how: str = "raise"
    times: int = 1_000

    def setup(self) -> None:
        with Path(self.counter).open("a") as file:
            file.write(".")
        if Path(self.counter).stat().st_size <= self.times:
            if self.how == "raise":
                raise RuntimeError("the model is missing")
            misbehave(self.how)

    def process_record(self, record: Record) -> Record:
        return record


@dataclass
class FailsInTeardown(RecordStage):
    how: str = "raise"

    def process_record(self, record: Record) -> Record:
        return record

    def teardown(self) -> None:
        if self.how == "raise":
            raise RuntimeError("cannot let go")
        misbehave(self.how)


@dataclass
class Slow(RecordStage):
    """Takes a little for every record, and leaves a line with its process behind."""

    seconds: float = 0.002
    pids: str = ""

    def setup(self) -> None:
        self._is_listed = not self.pids

    def process_record(self, record: Record) -> Record:
        if not self._is_listed:  # a worker that is killed earlier, during its set-up, would count as broken
            with Path(self.pids).open("a") as file:
                file.write(f"{os.getpid()}\n")
            self._is_listed = True
        time.sleep(self.seconds)
        return record


@dataclass
class Quiet(ProcessingStage):
    """Takes as long for every record as it says, announces each, and hands nothing on before the batch is done."""

    pids: str

    def setup(self) -> None:
        with Path(self.pids).open("a") as file:
            file.write(f"{os.getpid()}\n")

    def writes(self) -> tuple[str, ...]:
        return ()

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        for record in batch.data:
            self.context.announce([record])
            time.sleep(record["takes_s"])
        yield batch


class BreaksTheCard(RecordStage):
    """Meets a broken CUDA context, as torch reports it."""

    def process_record(self, record: Record) -> Record:
        if record["x"] == 5:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return record


class Shouts(RecordStage):
    """Prints more than a pipe holds, and then dies."""

    def process_record(self, record: Record) -> Record:
        if record["x"] == 5:
            print("x" * 300_000, flush=True)
            print("the last words", flush=True)
            os._exit(3)
        return record


@dataclass
class LoadsCheckpoint(RecordStage):
    """Loads a checkpoint as careless code does, already as it arrives in the worker, and says whether torch refused."""

    path: str

    def writes(self) -> tuple[str, ...]:
        return ("refused",)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if os.environ.get("CURATE_TEST_DRIVER") != str(os.getpid()):
            self.refused = self._is_refused()

    def process_record(self, record: Record) -> Record:
        return {**record, "refused": self.refused and self._is_refused()}

    def _is_refused(self) -> bool:
        import torch

        try:
            torch.load(self.path)
        except pickle.UnpicklingError:
            return True
        return False
