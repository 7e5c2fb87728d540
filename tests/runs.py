"""Runs to look at: small ones with real audio, hostile ones, and a synthetic one of any size."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate import Pipeline, RecordError, processing_stage
from curate.engine.accounting.counts import RecordCounts
from curate.engine.durability.commit import CommitStats
from curate.engine.durability.commit_file import seal
from curate.plugin import PluginHost
from curate.stages import Merge, QualityFilter, ReadRecords, WordErrorRate
from curate.testing.audio import write_tone

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script><img src=x onerror='window.hacked = 3'>",
    "\"'><svg onload=window.hacked=4>",
    "{{ 7 * 7 }} {% raw %} ${window.hacked = 5} javascript:window.hacked=6",
    "before\u0000\u0007\u001b[31mafter\u2028\u2029",
    "\u202egnp.exe\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u200f",
    "\ud800 a lone surrogate",
    "w" * 1_000_000,
    "many words " * 50_000,
)


def hostile_records(folder: Path) -> list[dict[str, Any]]:
    """Return records whose every text is an attack."""
    good = str(write_tone(folder / "good.wav"))
    records: list[dict[str, Any]] = [
        {
            "audio_filepath": good if text is HOSTILE[0] else f"{folder}/{text[:200]}.wav",
            "duration": 1.0,
            "text": text,
            "pred_text": text if fate == "kept" else f"{text[:5000]} something else entirely",
            "fate": fate,
            text[:300]: text,
        }
        for text in HOSTILE
        for fate in ("kept", "filtered", "quarantined")
    ]
    records.append({"audio_filepath": "/etc/passwd", "duration": 1.0, "text": "a b", "pred_text": "c", "fate": "kept"})
    return records


@processing_stage(name="judge", reads=["fate"], writes=[])
def judge(record: dict) -> dict:
    """Refuse the records whose column `fate` says so."""
    if record["fate"] == "quarantined":
        raise RecordError("bad_value", f"refused: {record['text'][:3000]}")
    return record


def pipeline(
    records: Sequence[dict[str, Any]], root: Path, *, name: str = "tones", most: float = 0.5, expression: str = ""
) -> Pipeline:
    """Return a pipeline that compares texts, quarantines on request and filters by error rate."""
    return (
        Pipeline(name)
        .add_stage(ReadRecords(records, roots=root))
        .add_stage(judge)
        .add_stage(WordErrorRate(normaliser="none"))
        .add_stage(QualityFilter(expression or f"wer <= {most} and duration <= 20"))
        .add_stage(Merge("curated.jsonl"))
    )


def small_run(folder: Path, *, most: float = 0.5) -> Path:
    """Run nine records with audio and return the run directory: 4 kept, 3 filtered, 2 quarantined (`most=0.5`)."""
    texts = [
        ("one two three four", "one two three four", "kept"),
        ("one two three four", "one two three five", "kept"),
        ("one two three four", "one two tree four", "kept"),
        ("five six", "five six", "kept"),
        ("five six", "seven eight nine", "filtered"),
        ("one two three four", "", "filtered"),
        ("alpha beta gamma", "delta beta", "filtered"),
        ("broken", "broken", "quarantined"),
        ("broken too", "broken too", "quarantined"),
    ]
    records = [
        {
            "audio_filepath": str(write_tone(folder / f"{place}.wav", 0.5 + place / 4)),
            "duration": 0.5 + place / 4,
            "text": text,
            "pred_text": heard,
            "fate": fate,
        }
        for place, (text, heard, fate) in enumerate(texts)
    ]
    run_dir = folder / f"run-{most}"
    pipeline(records, folder, most=most).run(run_dir=run_dir, host=PluginHost(environment={"CURATE_PLUGINS": ""}))
    return run_dir


def varied_run(folder: Path) -> Path:
    """Run 60 records of several datasets, languages and speakers, from which far more are left out than samples show.

    Its events and its summary are those of a run in which models were loaded for 40 of 100 seconds, and of a second
    phase of 8.
    """
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    tones = [str(write_tone(folder / f"{place}.wav", 0.5 + place / 2)) for place in range(4)]
    records = [
        {
            "audio_filepath": tones[place % 4],
            "duration": 0.5 + place % 4 / 2,
            "text": " ".join(words[place % 5 :]),
            "pred_text": " ".join(words[place % 5 + (place % 3) * 3 :]),
            "fate": "quarantined" if place % 20 == 19 else "kept",
            "dataset": ("read-speech-of-libraries-2024", "telephone")[place % 2],
            "lang": ("en", "de", None)[place % 3],
            "speaker": f"speaker-{place % 22:03}",
        }
        for place in range(60)
    ]
    run_dir = folder / "run"
    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    expression = "wer <= 0.5 and 0.01 <= duration <= 3"
    pipeline(records, folder, name="varied", expression=expression).run(
        run_dir=run_dir, host=host, max_failure_ratio=1.0
    )
    summary = json.loads((run_dir / "summary.json").read_bytes())
    summary["by_stage"]["word_error_rate"]["performance"] = {  # as an ASR stage measures it
        "batches": 45,
        "total_samples": 60,
        "audio_s": 90.0,
        "padded_s": 120.0,
        "model_s": 30.0,
        "load_wait_s": 10.0,
        "rtfx": 30.5,
        "shapes": {"16x5": 30, "2x20": 4, "8x10": 11},
    }
    (run_dir / "summary.json").write_text(json.dumps(summary))
    events = [json.loads(line) for line in (run_dir / "metrics" / "events.jsonl").read_text().splitlines()]
    first = next(event for event in events if event["event"] == "progress")
    progress = [
        {**first, "elapsed_s": at_s, "records_in": records_in, "audio_s": 1.5 * records_in, "ready_s": ready_s}
        for at_s, records_in, ready_s in ((0.0, 0, None), (60.0, 20, 40.0), (80.0, 40, 40.0), (100.0, 60, 40.0))
    ]
    progress += [
        {**first, "phase": 1, "elapsed_s": at_s, "records_in": records_in, "audio_s": 1.5 * records_in, "ready_s": 0.0}
        for at_s, records_in in ((0.0, 0), (8.0, 60))
    ]
    others = [event for event in events if event["event"] != "progress"]
    lines = [others[0], *progress, *others[1:]]
    (run_dir / "metrics" / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return run_dir


def hostile_run(folder: Path) -> Path:
    """Run the hostile records and return the run directory."""
    run_dir = folder / "run"
    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    pipeline(hostile_records(folder), folder, name="<script>hostile").run(run_dir=run_dir, host=host)
    return run_dir


def synthetic_run(run_dir: Path, records: int) -> Path:
    """Write a run directory of so many records as the engine would, without running anything."""
    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    seed = {"audio_filepath": "a.wav", "duration": 1.0, "text": "a b", "pred_text": "a b", "fate": "kept"}
    pipeline([seed], run_dir.parent).run(run_dir=run_dir, host=host)
    for old in (*run_dir.glob("co*/p*"), *run_dir.glob("data/*"), run_dir / "summary.json"):
        old.unlink()
    per_unit = 200_000
    for unit, first in enumerate(range(0, records, per_unit)):
        _write_unit(run_dir, unit, range(first, min(first + per_unit, records)))
    return run_dir


_WORDS = "the quick brown fox jumps over the lazy dog and runs away into the forest"


def _write_unit(run_dir: Path, unit: int, numbers: range) -> None:
    lines: dict[str, list[str]] = {"data": [], "filtered": [], "quarantine": []}
    sums = dict.fromkeys(lines, 0)
    words = _WORDS.split()
    for number in numbers:
        duration_s = round(0.5 + (number * 7919 % 20011) / 1000, 3)
        wer = round((number * 104729 % 10007) / 9000, 4)
        text = " ".join(words[number % 7 : number % 7 + 3 + number % 6])
        record = {
            "audio_filepath": f"/corpus/{number % 1000:03d}/{number}.flac",
            "duration": duration_s,
            "text": text,
            "pred_text": text.replace("fox", "box"),
            "speaker": f"speaker-{number % 977}",
            "wer": wer,
        }
        identity = f"corpus.jsonl:{number + 1}"
        if number % 97 == 0:
            folder, told = "quarantine", {"stage": "judge", "code": "decode_error", "message": "no", "traceback": "T"}
        elif wer > 0.5:
            folder, told = "filtered", {"stage": "quality_filter", "reason": f"wer <= 0.5 (wer = {wer})"}
        else:
            folder, told = "data", None
        note = {"_id": identity, "position": number, **(told or {}), "record": record}
        row = {"_id": identity, **record} if told is None else note
        lines[folder].append(json.dumps(row))
        sums[folder] += round(duration_s * 1000)
    name = f"p0-{unit:06d}"
    files: list[dict[str, Any]] = []
    for folder, rows in lines.items():
        content = ("\n".join(rows) + "\n").encode()
        (run_dir / folder / f"{name}.jsonl").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append({"kind": folder, "path": f"{folder}/{name}.jsonl", "size": len(content), "sha256": digest})
    kept, filtered, quarantined = (len(lines[folder]) for folder in ("data", "filtered", "quarantine"))
    books = RecordCounts(
        records_in=len(numbers),
        kept=kept,
        filtered=filtered,
        quarantined=quarantined,
        in_ms=sum(sums.values()),
        kept_ms=sums["data"],
        filtered_ms=sums["filtered"],
        quarantined_ms=sums["quarantine"],
    )
    account = CommitStats(
        books,
        stages={
            "judge": {"filtered": 0, "quarantined": quarantined, "split": 0, "children": 0},
            "quality_filter": {"filtered": filtered, "quarantined": 0, "split": 0, "children": 0},
        },
        codes={"decode_error": quarantined},
        id_checksum=0,
        reasons={"quality_filter": {"wer <= 0.5": [filtered, sums["filtered"]]}},
        stage_codes={"judge": {"decode_error": [quarantined, sums["quarantine"]]}},
    )
    commit = {
        "unit": name,
        "phase": 0,
        "fingerprint": json.loads((run_dir / "run.json").read_bytes())["fingerprint"],
        "ranges": [[numbers.start, numbers.stop - 1, kept]],
        "rows": kept,
        "account": account.to_dict(),
        "apart": {},
        "busy_s": {"judge": 1.5, "word_error_rate": 9.0},
        "measures": {},
        "files": files,
    }
    (run_dir / "commits" / f"{name}.json").write_bytes(seal(commit))


def peak_memory(script: str, *arguments: str) -> int:
    """Run a script in a process of its own and return the most memory that it had, in bytes."""
    # `ru_maxrss` would also count what the forking process had
    script += "\nprint(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    return int(done.stdout.split()[1]) * 1024
