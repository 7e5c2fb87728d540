"""A folder, and a bucket, that gain files between the attempts of a run that is killed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.durable import killed
from tests.faults.listings import start
from tests.object_servers import needs_s3, s3_environment, s3_server

KILL = "commit.after_rename:kill@2"
PUBLISHING = (
    "publish.after_temporary:kill@2",  # nothing is sent
    "set.before_rename:kill",
    "object.after_upload:kill",
    "object.after_upload:kill@2",
    "set.after_rename:kill",
)
"""Places between the first and the last of several objects that are published together."""


def recordings(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.wav").write_bytes(b"RIFF")
        (folder / f"{name}.txt").write_text(name)


def texts(run_dir: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (run_dir / "out.jsonl").read_bytes().splitlines()]


def test_killed_run_over_a_folder_that_gains_files_reads_each_of_the_first_ones_once(tmp_path: Path) -> None:
    folder, run_dir = tmp_path / "speech", tmp_path / "run"
    names = [f"r{number:03}" for number in range(300)]
    recordings(folder, *names)
    assert start("local", str(folder), tmp_path / "undisturbed")[0] == 0
    attempts = 0
    while killed(start("multiprocessing", str(folder), run_dir, failpoint=KILL)[0]):
        attempts += 1
        recordings(folder, f"q{attempts}")  # in front of all others
    assert attempts >= 2
    assert (run_dir / "out.jsonl").read_bytes() == (tmp_path / "undisturbed/out.jsonl").read_bytes()
    recordings(folder, "r000b")
    code, printed = start("local", str(folder), run_dir, "grown", failpoint="commit.after_rename:kill@1")
    assert killed(code), printed
    code, printed = start("local", str(folder), run_dir, "grown")
    assert code == 0, printed
    assert texts(run_dir) == [*names, *(f"q{number + 1}" for number in range(attempts)), "r000b"]


@needs_s3
def test_killed_run_over_a_bucket_that_gains_objects_reads_what_was_listed(tmp_path: Path) -> None:
    def put(name: str, count: int) -> None:
        rows = ({"text": f"{name}-{number}", "duration": 1.0} for number in range(count))
        server.put(f"parts/{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())

    with s3_server(tmp_path / "s3") as server:
        environment = s3_environment(f"http://127.0.0.1:{server.port}", tmp_path)
        for name in ("b", "c"):
            put(name, 12)
        pattern, run_dir = "s3://speech/parts/*.jsonl", tmp_path / "run"
        expected = [f"{name}-{number}" for name in ("b", "c") for number in range(12)]
        assert killed(start("local", pattern, run_dir, failpoint=KILL, environment=environment)[0])
        put("a", 3)
        code, printed = start("local", pattern, run_dir, environment=environment)
        assert code == 0, printed
        assert "s3://speech/parts/a.jsonl among them" in printed and texts(run_dir) == expected
        assert json.loads((run_dir / "listing.jsonl").read_text().splitlines()[0]) == "s3://speech/parts/b.jsonl"
        code, printed = start("local", pattern, run_dir, "grown", environment=environment)
        assert code == 0, printed
        assert texts(run_dir) == [*expected, "a-0", "a-1", "a-2"]
        (server.folder / "speech/parts/c.jsonl").unlink()
        code, printed = start("local", pattern, run_dir, environment=environment)
        assert code != 0 and "s3://speech/parts/c.jsonl is gone since the run began" in printed
        put("b", 13)
        code, printed = start("local", pattern, run_dir, environment=environment)
        assert code != 0 and "s3://speech/parts/b.jsonl has changed since the run began" in printed


@needs_s3
def test_run_from_a_folder_to_objects_in_a_bucket_is_killed_at_every_place_and_publishes_the_bytes_of_a_local_run(
    tmp_path: Path,
) -> None:
    folder, template, run_dir = tmp_path / "s3/speech/in", "sets/{part}/all.jsonl", tmp_path / "run"
    names = [f"{part}/{number:02}" for part in "abc" for number in range(8)]
    with s3_server(tmp_path / "s3") as server:
        environment = s3_environment(f"http://127.0.0.1:{server.port}", tmp_path)
        recordings(folder, *names)
        assert start("local", str(folder), tmp_path / "undisturbed", template)[0] == 0
        wanted = {
            f"sets/{part}/all.jsonl": (tmp_path / "undisturbed/sets" / part / "all.jsonl").read_bytes()
            for part in "abc"
        }
        sent: list[int] = []
        for executor, place in (("multiprocessing", KILL), *(("local", place) for place in PUBLISHING)):
            code, printed = start(
                executor, "s3://speech/in", run_dir, f"s3://speech/{template}", failpoint=place, environment=environment
            )
            assert killed(code), printed
            recordings(folder, "a/000")  # in front of all others but one
            found = {name: server.get(name) for name in wanted if name in server.names()}
            assert found.items() <= _from(wanted, folder).items(), "an object is whole, or not there"
            sent.append(len(found))
        assert sent[:3] == [0, 0, 0] and 1 <= sent[3] <= sent[4] <= sent[5] == 3
        code, printed = start("local", "s3://speech/in", run_dir, f"s3://speech/{template}", environment=environment)
        assert code == 0 and "a/000.wav among them" in printed, printed
        assert {name: server.get(name) for name in wanted} == _from(wanted, folder)
        assert not list(run_dir.rglob("*.tmp-*"))
        more = f"s3://speech/{template}"
        code, printed = start("local", "s3://speech/in", run_dir, more, "grown", environment=environment)
        assert code == 0, printed
        read = [json.loads(line)["text"] for line in server.get("sets/a/all.jsonl").splitlines()]
        assert read == [*names[:8], "a/000"] and server.get("sets/b/all.jsonl").count(b"\n") == 8
        code, printed = start("local", "s3://speech/in", tmp_path / "other", more, environment=environment)
        assert code != 0 and "s3://speech/sets/a/all.jsonl is there already" in printed


def _from(published: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """Return the files with the recordings of a local folder behind the URL of the same folder."""
    return {name: content.replace(str(folder).encode(), b"s3://speech/in") for name, content in published.items()}
