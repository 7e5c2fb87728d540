"""Sections about memory: what becomes of texts where it was released, and where it runs out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.gpu.run_sections import keep
from tests.gpu.sections import inputs, processes
from tests.gpu.sections.graphs import computer_of

_RELEASED = """
import json, sys, torch
from curate.asr import NemoRecogniser
from curate.asr.graph_memory import GraphMemory
from tests.gpu.sections.inputs import MODEL, quickstart_clips
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
    print(json.dumps(row | {"turns": turn + 1}), flush=True)
"""


def released_memory(device: str, is_small: bool) -> None:
    """Whether a decoder's CUDA graphs outlive `empty_cache`: by either measure of `curate.asr.graph_memory`, by none.

    With `none`, an illegal memory access, other texts or tensors that are not intact confirm why there are measures.
    """
    hows = ("none", "checks", "pools", "pools several", "pools several expandable", "none several", "pools checks")
    expandable = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}  # as workers that share a GPU have it
    variants: list[tuple[str, dict[str, str]]] = [
        (f"{how},{device}", expandable if "expandable" in how else {})
        for how in (hows if device != "cpu" else hows[-1:])
    ]
    for name, line in processes.children(_RELEASED, variants, processes.left_s() - 3).items():
        keep("released_memory", measures=name.partition(",")[0], **json.loads(line))


_SHORT_OF_MEMORY = """
import json, sys, torch
from curate.asr import NemoRecogniser, is_oom
from curate.batching import Unfit, run_splitting
from curate.gpu_errors import classify_gpu_error
from tests.gpu.sections.inputs import MODEL, quickstart_clips
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
    for name, line in processes.children(_SHORT_OF_MEMORY, variants, processes.left_s() - 3).items():
        keep("short_of_memory", extra_mb=int(name.partition(",")[0]), **json.loads(line))


def oom_in_capture(device: str, is_small: bool) -> None:
    """What follows when memory runs out inside a capture, injected; see `short_of_memory` for the real thing."""
    import torch

    from curate.asr import NemoRecogniser
    from curate.gpu_errors import classify_gpu_error

    recogniser = NemoRecogniser(inputs.MODEL, device=device, decoder="rnnt", dtype="fp32")
    recogniser.setup()
    clips = inputs.quickstart_clips()[:24]
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

    every = inputs.quickstart_clips()
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
