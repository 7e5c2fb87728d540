"""The contracts of a writer and of a format of manifests, as tests that an author inherits.

class TestWriteCtm(WriterContract):
    def writer(self):
        return WriteCtm("out.ctm")

class TestPsv(FormatContract):
    def format(self):
        return PSV
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from curate.io import ManifestFormat, publish
from curate.io.rows import decode_row, encode_row, without_id
from curate.pipeline import Pipeline
from curate.plugin import PluginHost
from curate.records import ID, Record
from curate.stage import RUN_FOLDERS, RecordStage, Reject, Stage, Writer
from curate.stages import Partition, ReadRecords

ROWS: Sequence[Record] = [
    {"text": f"größer {number}", "duration": number / 4, "audio_filepath": f"/audio/{number}.wav"}
    for number in range(1, 8)
]


class WriterContract:
    """Tests of one writer. Derive from it, name the class `Test…`, and define `writer()`."""

    def writer(self) -> Writer:
        """Return the writer, with relative paths, which lie in the run directory."""
        raise NotImplementedError(f"{type(self).__name__} must define writer(): return the writer to test")

    def records(self) -> Sequence[Record]:
        """Return the records to write; seven with text, duration and path by default."""
        return ROWS

    # What is below is inherited.

    def test_it_writes_the_files_that_it_declares(self, tmp_path: Path) -> None:
        """`outputs()` names every file, and nothing else is left behind."""
        before, after = self._written(tmp_path / "none", None), self._written(tmp_path / "run", 3)
        assert {name for name in after if name not in before} == set(self.writer().outputs())

    def test_the_batches_make_no_difference(self, tmp_path: Path) -> None:
        """The same records give the same bytes."""
        outputs = self.writer().outputs()
        one, many = self._written(tmp_path / "one", 1), self._written(tmp_path / "many", 1000)
        for name in outputs:
            assert one[name] == many[name], f"{name} depends on how the records travelled"

    def test_a_run_without_records_publishes_nothing(self, tmp_path: Path) -> None:
        """A run in which every record was left out publishes nothing."""
        written = self._written(tmp_path, 1000, left_out=True)
        assert not set(self.writer().outputs()) & set(written)

    def _written(self, folder: Path, max_records: int | None, *, left_out: bool = False) -> dict[str, bytes]:
        """Run a pipeline, with the writer unless `max_records` is None, and return the files that are not the run's."""
        stages: list[Stage] = [ReadRecords(list(self.records())), Partition(max_records=max_records or 1000)]
        stages += [_LeaveOut()] if left_out else []
        stages += [] if max_records is None else [self.writer()]
        pipeline = Pipeline("contract", stages)
        pipeline.run(run_dir=folder, host=PluginHost(environment={"CURATE_PLUGINS": ""}))
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.relative_to(folder).parts[0] not in RUN_FOLDERS
        }


class _LeaveOut(RecordStage):
    """Leaves every record out."""

    cardinality = "filters"

    def writes(self) -> tuple[str, ...]:
        return ()

    def process_record(self, record: Record) -> Reject:
        return Reject("all are left out")


class FormatContract:
    """Tests of one format of manifests that is written. Name the class `Test…`, and define `format()`."""

    def format(self) -> ManifestFormat:
        """Return the format to test."""
        raise NotImplementedError(f"{type(self).__name__} must define format(): return the format to test")

    def records(self) -> Sequence[Record]:
        """Return records that the format can hold; seven with text, duration and path by default."""
        return ROWS

    # What is below is inherited.

    def test_records_that_are_written_are_read_back(self, tmp_path: Path) -> None:
        """The rows are the records, in order, without their `_id`."""
        assert [row for _, row in self._rows(self._file(tmp_path))] == list(self.records())

    def test_equal_records_give_equal_bytes(self, tmp_path: Path) -> None:
        """Whatever the file is called, and whenever it is written."""
        assert self._file(tmp_path / "a").read_bytes() == self._file(tmp_path / "b").read_bytes()

    def test_it_can_be_read_from_any_row(self, tmp_path: Path) -> None:
        """Rows are numbered in rising order, and `after` names the last one that is not wanted."""
        path = self._file(tmp_path)
        whole = self._rows(path)
        numbers = [number for number, _ in whole]
        assert numbers == sorted(set(numbers)), f"the rows are numbered {numbers}"
        for place, number in enumerate(numbers):
            assert self._rows(path, number) == whole[place + 1 :], f"after row {number}, other rows are read"

    def test_it_counts_rows_and_names_columns(self, tmp_path: Path) -> None:
        """`count_rows` and `columns` may be unknown, but not wrong."""
        path, format = self._file(tmp_path), self.format()
        count, columns = format.count_rows(path), format.columns(path)
        assert count is None or abs(count - len(self.records())) <= 1, f"count_rows gives {count}"
        known = {name for record in self.records() for name in record}
        assert columns is None or set(columns) == known, f"columns gives {columns}"

    def test_no_records_can_be_written_and_read(self, tmp_path: Path) -> None:
        """A manifest may well be empty."""
        assert self._rows(self._file(tmp_path, [])) == []

    def _file(self, folder: Path, records: Sequence[Record] | None = None) -> Path:
        format = self.format()
        path = folder / f"manifest{format.suffixes[0]}"
        publish(_Rows(self.records() if records is None else records), path, format=format)
        return path

    def _rows(self, path: Path, after: int = 0) -> list[tuple[int, object]]:
        return list(islice(self.format().read_rows(path, after), 1000))


class _Rows:
    """Records as a run hands them to a writer."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._lines = [encode_row({ID: f"records:{place}", **row}) for place, row in enumerate(records, start=1)]

    def __iter__(self) -> Iterator[Record]:
        return map(decode_row, self._lines)

    def lines(self) -> Iterator[bytes]:
        return map(without_id, self._lines)
