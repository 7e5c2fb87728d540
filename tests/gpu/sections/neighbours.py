"""Sections about processes that share a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from tests.gpu.run_sections import keep
from tests.gpu.sections import inputs, processes

_SHARING = """
import json, sys
import torch
from curate.asr import NemoRecogniser
from tests.gpu.sections.inputs import large_model, sharing_records
from tests.gpu import measuring
_, share, small, device = sys.argv[1].split(",")
share, small = float(share), small == "1"
recogniser = NemoRecogniser(large_model(small), device=device, decoder="rnnt", dtype="bf16", gpu_share=share)
recogniser.setup()
watched = measuring.Watched(recogniser, device)
records = sharing_records(8 if small else 256)
with measuring.stage_around(watched, {"batching": "memory"}, gpus=share) as stage:
    batch, done = measuring.transcribe_all(stage, records)
    report = stage.batching_report()
total = torch.cuda.get_device_properties(0).total_memory
print(json.dumps({"records": len(records), "done": len(done), "failed": len(batch.failed), "ooms": report["ooms"],
                  "reserved_share": torch.cuda.max_memory_reserved() / total, "share": share,
                  "allocator": torch.cuda.get_allocator_backend()}))
"""


def two_workers(device: str, is_small: bool) -> None:
    """Two workers with fractions share the GPU, each with a transducer in CUDA graphs and batches by memory."""
    expandable = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    small = "1" if is_small else "0"
    halves = [(f"{name},0.45,{small},{device}", expandable) for name in ("first", "second")]
    for name, line in processes.children(_SHARING, halves, processes.left_s() - 3).items():
        keep("two_workers", case=name.partition(",")[0], **json.loads(line))


_HOG = """
import sys, time, torch
leave = int(sys.argv[1]); torch.ones(1, device="cuda"); torch.cuda.empty_cache()
taken = torch.cuda.mem_get_info()[0] - leave
block = torch.empty(max(1, taken), dtype=torch.uint8, device="cuda")
print("ready", flush=True)
sys.stdin.readline()
time.sleep(2.5)
del block; torch.cuda.empty_cache(); print("gone", flush=True); sys.stdin.readline()
"""


def neighbour(device: str, is_small: bool) -> None:
    """A lone record waits for a neighbour that holds all memory for a moment."""
    import torch
    from loguru import logger

    from curate.asr import NemoRecogniser
    from tests.gpu import measuring

    lines: list[str] = []
    logger.enable("curate")
    logger.add(lambda message: lines.append(str(message)), level="INFO", format="{message}")
    recogniser = NemoRecogniser(inputs.large_model(is_small), device=device, decoder="ctc", dtype="bf16")
    recogniser.setup()
    longest = measuring.noise(40.0)
    recogniser.transcribe([longest])  # whatever cuBLAS and cuDNN keep is there from now on
    records = inputs.sharing_records(8)
    watched = measuring.Watched(recogniser, device)
    with measuring.stage_around(watched, {"batching": "length", "max_batch_s": 200.0}) as stage:
        recogniser.free_memory()
        hog = subprocess.Popen(
            [sys.executable, "-c", _HOG, str(8 * 2**20)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert hog.stdin is not None and hog.stdout is not None
        hog.stdout.readline()
        free_mb = torch.cuda.mem_get_info()[0] / 2**20
        hog.stdin.write("let go soon\n")
        hog.stdin.flush()
        started = time.perf_counter()
        batch, done = measuring.transcribe_all(stage, records)
        keep(
            "neighbour",
            case="all memory held for 2.5 s",
            free_mb=free_mb,
            records=len(records),
            done=len(done),
            failed=[str(failed.error) for failed in batch.failed],
            ooms=stage.batching_report()["ooms"],
            wall_s=time.perf_counter() - started,
            waited=[line.strip() for line in lines if "other processes" in line],
        )
        hog.stdin.write("end\n")
        hog.stdin.flush()
        hog.wait(20)
