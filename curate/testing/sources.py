"""The contract of a source, as tests that its author inherits.

class TestReadCtm(SourceContract):
    def source(self, folder):
        (folder / "a.ctm").write_text("a 1 0.0 0.4 hello\n")
        return ReadCtm(folder / "a.ctm")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.pipeline import Pipeline
from curate.plugin import PluginHost
from curate.records import ID, Failed, Record
from curate.stage import Source


class SourceContract:
    """Tests of one source. Derive from it, name the class `Test…`, and define `source(folder)`."""

    def source(self, folder: Path) -> Source:
        """Return the source, over an input of at least three records.

        Args:
            folder: an empty folder, for the input; the same for every call within a test.
        """
        raise NotImplementedError(f"{type(self).__name__} must define source(folder): return the source to test")

    # What is below is inherited.

    def test_looking_at_it_changes_nothing(self, tmp_path: Path) -> None:
        """`check`, columns, roots and inputs can be asked for any number of times, before anything is read."""
        source = self.source(tmp_path)
        source.check()
        assert _looks(source) == _looks(source), "a second look at the source gives something else"

    def test_its_inputs_are_files(self, tmp_path: Path) -> None:
        """Inputs are what a resumed run compares, so they must be there."""
        for path in self.source(tmp_path).inputs():
            assert path.is_file(), f"inputs() names {path}, which is not a file"

    def test_ids_are_unique(self, tmp_path: Path) -> None:
        """Every record has an `_id` that no other one has."""
        ids = [_id_of(item) for item in self.source(tmp_path).read()]
        assert len(ids) >= 3, "give the contract at least three records"
        assert len(set(ids)) == len(ids), f"an _id is read twice: {ids}"

    def test_reading_again_gives_the_same(self, tmp_path: Path) -> None:
        """A resumed run reads again and relies on it."""
        assert _read(self.source(tmp_path)) == _read(self.source(tmp_path))

    def test_it_resumes_after_any_record(self, tmp_path: Path) -> None:
        """`read(after)` yields the records after that one, and no others."""
        whole = _read(self.source(tmp_path))
        for place, (identity, _) in enumerate(whole):
            rest = _read(self.source(tmp_path), identity)
            assert rest == whole[place + 1 :], f"read(after={identity!r}) does not yield the records after this one"

    def test_its_listing_has_all_that_it_reads(self, tmp_path: Path) -> None:
        """A run lists folders and patterns once, and every attempt reads the files of that list."""
        source = self.source(tmp_path)
        names = source.listing()
        if names is None:
            return
        listed = list(names)
        whole = _read(source)
        source.use_listing(listed)
        assert _read(source) == whole, "the records of what listing() names are others than those of the source"
        assert list(source.listing() or ()) == listed, "listing() must yield the files that are there now"

    def test_its_columns_are_those_of_its_records(self, tmp_path: Path) -> None:
        """Columns that are declared are found in a record at least, and records have no others."""
        source = self.source(tmp_path)
        declared = source.record_columns()
        if declared is None:
            return
        found = {name for item in source.read() if not isinstance(item, Failed) for name in item} - {ID}
        assert set(declared) == found, (
            f"record_columns() gives {sorted(declared)}, but the records have {sorted(found)}"
        )

    def test_a_run_accounts_for_every_record(self, tmp_path: Path) -> None:
        """Records are kept, and rows that are not records are in quarantine."""
        source = self.source(tmp_path)
        items = list(source.read())
        failed = sum(isinstance(item, Failed) for item in items)
        host = PluginHost(environment={"CURATE_PLUGINS": ""})
        summary = Pipeline("contract", [source]).run(host=host, max_failures=len(items)).summary
        assert (summary["records_in"], summary["quarantined"]) == (len(items), failed)
        count = source.count()
        assert count is None or count >= 0, f"count() gives {count}"


def _id_of(item: Record | Failed) -> str:
    record = item.record if isinstance(item, Failed) else item
    if ID not in record:
        raise AssertionError(f"a record has no {ID!r}: {record!r:.200}")
    return record[ID]


def _read(source: Source, after: str | None = None) -> list[tuple[str, Any]]:
    return [
        (_id_of(item), (item.error.code, str(item.error)) if isinstance(item, Failed) else item)
        for item in source.read(after)
    ]


def _looks(source: Source) -> tuple[Any, ...]:
    columns = source.record_columns()
    return (
        None if columns is None else sorted(columns),
        source.audio_roots(),
        list(source.inputs()),
        source.count(),
        dict(source.fingerprint()),
    )
