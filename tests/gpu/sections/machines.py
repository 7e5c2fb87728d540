"""Sections about the machine: its GPU, its errors, and models that are restored on it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from tests.gpu.run_sections import keep
from tests.gpu.sections import inputs, processes


def machine(device: str, is_small: bool) -> None:
    """Which GPU this is, whether our ids are torch's, and whether one selects the GPU."""
    import torch

    from curate.machine import Machine, find_gpus
    from tests.gpu.tables import describe_machine

    smi = [
        subprocess.run(["sh", "-c", f"nvidia-smi {what}"], capture_output=True, text=True, check=False).stdout
        for what in ("-L", "--query-gpu=driver_version,mig.mode.current,memory.total --format=csv,noheader")
    ]
    found = find_gpus()
    keep("machine", **describe_machine(device), nvidia_smi=smi, here=str(Machine.here()), gpus=str(found))
    if device == "cpu":
        return
    keep(
        "machine",
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        proc_driver=Path("/proc/driver/nvidia/gpus").is_dir(),
        torch_uuid=str(torch.cuda.get_device_properties(0).uuid),
        ours=[gpu.id for gpu in found],
    )
    code = (
        "import torch, json, sys; from curate.machine import find_gpus;"
        "print(json.dumps({'count': torch.cuda.device_count(), 'ours': len(find_gpus())}))"
    )
    some = found[0].id if found else "0"
    names = {
        "number": "0",
        "uuid": some,
        "abbreviated": some[:12],
        "twice": f"{some},{some}",
        "none": "none",
        "behind an invalid one": "0,-1",
    }
    variants = [(name, {"CUDA_VISIBLE_DEVICES": visible}) for name, visible in names.items()]
    for name, told in processes.children(code, variants, processes.left_s() - 3).items():
        keep("machine", selected_by=name, visible=names[name], **json.loads(told))


def model(device: str, is_small: bool) -> None:
    """Make the large model, for the sections that follow."""
    started = time.perf_counter()
    path = inputs.large_model(is_small)
    keep("model", path=str(path), bytes=path.stat().st_size, wall_s=time.perf_counter() - started)


_BROKEN = """
import json, torch
from curate.gpu_errors import classify_gpu_error
x = torch.zeros(4, device="cuda")
def bad(): x[torch.tensor([99], device="cuda")]; torch.cuda.synchronize()
ones = torch.ones(8, 8, device="cuda")
tries = {"assert": bad, "next": lambda: x + 1, "matmul": lambda: ones @ ones, "empty_cache": torch.cuda.empty_cache,
         "synchronize": torch.cuda.synchronize, "pinned": lambda: torch.zeros(9, pin_memory=True),
         "fft": lambda: torch.fft.rfft(torch.ones(512, device="cuda")), "mem_get_info": torch.cuda.mem_get_info}
found = {}
for name, work in tries.items():
    try: work(); found[name] = "fine"
    except BaseException as e: found[name] = [type(e).__name__, str(e)[:120], str(classify_gpu_error(e))]
print(json.dumps(found), flush=True)
import os; os._exit(0)
"""


_FULL = """
import json, torch
from curate.gpu_errors import classify_gpu_error
torch.cuda.set_per_process_memory_fraction(0.01)
half = dict(device="cuda", dtype=torch.bfloat16)
total = torch.cuda.get_device_properties(0).total_memory
blocks = []
try:
    while True: blocks.append(torch.empty(2**20, dtype=torch.uint8, device="cuda"))
except BaseException: pass
tries = {"allocate": lambda: torch.empty(10**11, dtype=torch.uint8, device="cuda"),
         "cublas": lambda: torch.ones(1024, 1024, **half) @ torch.ones(1024, 1024, **half),
         "cufft": lambda: torch.fft.rfft(torch.ones(64, 512, device="cuda")),
         "lstm": lambda: torch.nn.LSTM(64, 64).cuda()(torch.ones(3, 3, 64, device="cuda")),
         "too many elements": lambda: torch.nn.functional.conv1d(torch.empty(2, 1, 2**31, device="meta"),
                                                                torch.empty(1, 1, 3, device="meta"))}
found = {}
for name, work in tries.items():
    try: work(); torch.cuda.synchronize(); found[name] = "fine"
    except BaseException as e: found[name] = [type(e).__name__, str(e)[:160], str(classify_gpu_error(e))]
print(json.dumps(found), flush=True)
"""


def error_messages(device: str, is_small: bool) -> None:
    """The words in which this release of torch reports a broken context and exhausted memory, and their class."""
    for name, code in (("broken context", _BROKEN), ("full", _FULL)):
        [told] = processes.children(code, [(name, {})], processes.left_s() - 3).values()
        keep("error_messages", case=name, **json.loads(told))


_RESTORE = """
import json, sys, traceback
from curate.asr import NemoRecogniser
from tests.gpu.sections.inputs import MODEL, quickstart_clips
device, how = sys.argv[1].split(",")
clips, ended = quickstart_clips()[:8], []
for number in range(4):
    recogniser = NemoRecogniser(MODEL, device=device, decoder=("rnnt", "ctc")[number % 2])
    try:
        recogniser.setup()
        if how != "bare": recogniser.transcribe(clips)
        ended.append("fine")
    except BaseException as error:
        ended.append(f"{type(error).__name__}: {str(error)[:200]}")
        traceback.print_exc()
    recogniser.close()
print(json.dumps({"restored": ended}))
"""


def restore_again(device: str, is_small: bool) -> None:
    """Whether one process can restore the same checkpoint again and again."""
    variants = [
        (f"{device},plain", {}),
        (f"{device},bare", {}),
        (f"{device},malloc debug", {"PYTHONMALLOC": "debug", "MALLOC_PERTURB_": "165"}),
        (f"{device},malloc", {"PYTHONMALLOC": "malloc"}),
    ]
    unique = list({name: (name, environment) for name, environment in variants}.values())
    if device == "cpu":
        unique = unique[:1]
    for name, line in processes.children(_RESTORE, unique, processes.left_s() - 3).items():
        keep("restore_again", case=name, **json.loads(line))
