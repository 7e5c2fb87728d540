"""A folder, and a bucket, that gain files between the attempts of a run that is killed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.durable import killed
from tests.faults.listings import start
from tests.object_servers import needs_s3, s3_environment, s3_server

KILL = "commit.after_rename:kill@2"


def recordings(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
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
