"""Stages whose work is a known number of CPU seconds, as a plugins-file."""

STAGES = '''
import time
from dataclasses import dataclass

from curate.errors import InfrastructureError
from curate.stage import RecordStage, Reject


def work(seconds):
    """Use this much CPU time of the thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@dataclass
class Cut(RecordStage):
    """Makes a record of each two seconds."""

    ms_per_s: float = 1.0
    name = "cut"
    cardinality = "splits"

    def reads(self):
        return ("duration",)

    def writes(self):
        return ("offset", "duration")

    def process_record(self, record):
        work(self.ms_per_s * record["duration"] / 1000)
        parts = max(1, round(record["duration"] / 2))
        for part in range(parts):
            length = record["duration"] / parts
            yield {**record, "offset": part * length, "duration": length}


@dataclass
class Half(RecordStage):
    """Leaves out every other record."""

    name = "half"
    cardinality = "filters"

    def writes(self):
        return ()

    def process_record(self, record):
        return record if int(record["_id"].rpartition("/")[2]) % 2 == 0 else Reject("odd")


@dataclass
class Broken(RecordStage):
    """Fails for a reason that is not a record's."""

    name = "broken"

    def process_record(self, record):
        raise InfrastructureError("the model is missing")


@dataclass
class Recognise(RecordStage):
    """Works in proportion to the audio."""

    ms_per_s: float = 1.0
    name = "recognise"

    def reads(self):
        return ("duration",)

    def writes(self):
        return ("text",)

    def process_record(self, record):
        work(self.ms_per_s * record["duration"] / 1000)
        record["text"] = "said"
        return record
'''
