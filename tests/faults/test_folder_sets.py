"""Sets of folders, and of Parquet, are published whole by runs that are killed at every place of writing them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from curate.io.failpoints import FAILPOINTS
from curate.io.provenance import verify_set
from curate.stage import SHARD_MEMBERS
from curate.storage import describe_file, describe_folder
from tests.faults.sharded import folders, published, run
from tests.faults.test_sharded_sets import COUNT, write_manifest

SETS = ("audio_files", "hf", "shar", "kaldi")
PLACES = [name for name in FAILPOINTS if name.startswith(("shard.", "set."))]


def check_visible(run_dir: Path) -> list[str]:
    """Check that every shard and every set that can be seen is whole; return the sets that are there."""
    for description in (run_dir / "shards").rglob("*.json"):
        described = json.loads(description.read_bytes())
        for suffix, file in described["files"].items():
            assert describe_file(description.with_suffix(suffix)) == file
        if "members" in described:
            assert describe_folder(description.with_suffix(SHARD_MEMBERS)) == described["members"]
    there = [name for name in SETS if (run_dir / name).exists()]
    for name in there:
        assert not list(verify_set(run_dir / name)), name
    return there


def names_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_sets_are_the_same_after_a_kill_at_every_place_of_every_writer(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, {})
    (tmp_path / "7.flac").unlink()  # which goes to quarantine
    result = folders(manifest).run(run_dir=tmp_path / "undisturbed", max_failures=100)
    assert (result.summary["kept"], result.summary["quarantined"]) == (COUNT - 1, 1)
    run_dir = tmp_path / "run"
    for number in range(len(SETS)):
        for place in PLACES:
            # An attempt publishes again what earlier ones have published, and encodes nothing again.
            nth = number + 1 if place.startswith("set.") else 1
            assert run("local", run_dir, manifest, f"{place}:kill@{nth}", "folders") == -signal.SIGKILL, place
            there = check_visible(run_dir)
            assert there == list(SETS[: number + (place == "set.after_rename")])
    assert run("local", run_dir, manifest, forms="folders") == 0
    assert check_visible(run_dir) == list(SETS)
    for name in SETS:
        assert published(run_dir / name) == published(tmp_path / "undisturbed" / name)
    assert names_of(run_dir / "shards") == names_of(tmp_path / "undisturbed" / "shards")
    assert not list(run_dir.rglob("*.tmp-*"))
