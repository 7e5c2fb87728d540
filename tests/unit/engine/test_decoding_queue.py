"""What is decoded ahead is announced before, at most 32 records, and bounded in bytes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from curate.audio import Audio
from curate.engine.worker.audio_source import AudioSource
from curate.engine.worker.decoding_queue import MAX_BEGUN, DecodingQueue
from curate.records import ID, Record
from curate.stage import WorkerContext
from tests.unit.engine.hearing import recordings, write_noise


class Watched:
    """A batch that is decoded ahead, and what was announced when a record was opened."""

    def __init__(self, records: list[Record], max_bytes: int) -> None:
        self.records = [{**record, ID: f"r:{number}"} for number, record in enumerate(records)]
        self.announced = 0
        self.opened: list[int] = []
        self.ahead_of: list[int] = []
        watched = self

        class Source(AudioSource):
            def open(self, record: Record, filepath_key: str) -> Audio:
                number = int(record[ID].partition(":")[2])
                watched.opened.append(number)
                assert number < watched.announced
                return super().open(record, filepath_key)

        self.source = Source(WorkerContext(audio_memory_bytes=max_bytes), lambda: None)

    def run(self, listens: Callable[[Record], bool] = lambda record: True) -> None:
        with ThreadPoolExecutor(2) as threads:
            ahead = DecodingQueue(
                self.source,
                threads,
                self.records,
                filepath_key="audio_filepath",
                listens=listens,
                announce=self._announce,
            )
            for position in range(len(self.records)):
                decoded = ahead.begin(position)
                self.ahead_of.append(ahead.end - position)
                if decoded is not None:
                    audio, decodes = decoded.future.result()
                    assert decodes == (0 if "bad" in self.records[position]["audio_filepath"] else 1)
                    ahead.learn(audio)
                    self.source.close(audio)
            ahead.close()

    def _announce(self, start: int, end: int) -> None:
        assert end - start <= 32
        self.announced = end


def test_a_bounded_number_of_records_is_begun_and_each_is_announced_before_it_is_opened(tmp_path: Path) -> None:
    watched = Watched(recordings(tmp_path, 50, 0.05), 1 << 30)
    watched.run()
    assert max(watched.ahead_of) == MAX_BEGUN <= 32
    assert sorted(watched.opened) == list(range(50))


def test_decoding_ahead_is_bounded_in_bytes(tmp_path: Path) -> None:
    second = 4 * (16_000 + 16_000)
    records = [{**record, "duration": 1.0} for record in recordings(tmp_path, 20, 1.0)]
    watched = Watched(records, 2 * 5 * second)
    watched.run()
    assert 1 < max(watched.ahead_of[2:]) <= 5  # five in half of the memory, with the current one


def test_a_record_that_no_stage_listens_to_is_not_opened(tmp_path: Path) -> None:
    watched = Watched(recordings(tmp_path, 6, 0.05), 1 << 30)
    watched.run(lambda record: record["number"] == 3)
    assert watched.opened == [3]


def test_an_error_waits_for_the_turn_of_its_record(tmp_path: Path) -> None:
    records = recordings(tmp_path, 2, 0.05)
    Path(records[1]["audio_filepath"]).unlink()
    watched = Watched(records, 1 << 30)
    with pytest.raises(Exception, match="does not exist"):
        watched.run()
    assert watched.opened == [0, 1]


def test_what_is_ahead_is_released_when_the_batch_is_left(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "a.flac", 0.1)
    source = AudioSource(WorkerContext(), lambda: None)
    records: list[Record] = [{ID: f"r:{n}", "audio_filepath": str(path)} for n in range(4)]
    with ThreadPoolExecutor(2) as threads:
        ahead = DecodingQueue(
            source,
            threads,
            records,
            filepath_key="audio_filepath",
            listens=lambda record: True,
            announce=lambda start, end: None,
        )
        first = ahead.begin(0)
        assert first is not None
        first.close(source)
        ahead.close()
        assert ahead.begin(1) is None


def test_recording_whose_length_cannot_be_found_fails_on_its_own_turn(tmp_path: Path) -> None:
    """Its header promises more frames than it has, which shows only when it is counted; the queue must not raise."""
    bad = write_noise(tmp_path / "bad.flac", seconds=0.5)
    content = bytearray(bad.read_bytes())
    content[21:26] = bytes([content[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])  # STREAMINFO's 36 bits of total samples
    bad.write_bytes(content)
    good = [{"audio_filepath": str(write_noise(tmp_path / f"{n}.flac", seconds=0.5))} for n in range(3)]
    watched = Watched([{"audio_filepath": str(bad)}, *good], 256_000_000)
    watched.run()
    assert sorted(watched.opened) == [0, 1, 2, 3]
