"""lhotse: python cuts.py MANIFEST OUT MODEL; its one workflow for ASR is openai-whisper's, so NeMo is called here."""

import json
import sys
from pathlib import Path
from typing import Any

import jiwer
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.dataset import AudioSamples, DynamicBucketingSampler
from nemo.collections.asr.models import ASRModel


def read_cuts(manifest: str) -> CutSet:
    cuts = []
    with Path(manifest).open() as lines:
        for line in lines:
            row = json.loads(line)
            samples = round(row["duration"] * 16_000)
            source = AudioSource("file", [0], row["audio_filepath"])
            recording = Recording(row["id"], [source], 16_000, samples, row["duration"])
            said = SupervisionSegment(row["id"], row["id"], 0, row["duration"], text=row["text"])
            cuts.append(MonoCut(row["id"], 0, row["duration"], 0, supervisions=[said], recording=recording))
    return CutSet.from_cuts(cuts)


def main(manifest: str, out: str, path: str) -> None:
    model: Any = ASRModel.restore_from(path, map_location=torch.device("cpu"))
    load: Any = AudioSamples(fault_tolerant=True)
    with CutSet.open_writer(f"{out}/all.jsonl", overwrite=False) as writer:  # skips what an earlier run wrote
        todo = read_cuts(manifest).filter(lambda cut: not writer.contains(cut.id) and 0.5 <= cut.duration <= 30)
        for batch in DynamicBucketingSampler(todo, max_duration=60, num_buckets=5, shuffle=False):
            audio, lengths, cuts = load(batch)
            samples = [row[:length] for row, length in zip(audio, lengths.tolist(), strict=True)]
            with torch.inference_mode():
                found = model.transcribe(samples, batch_size=len(samples), verbose=False)
            for cut, result in zip(cuts, found, strict=True):
                cut.pred_text = getattr(result, "text", result)
                cut.wer = jiwer.wer(cut.supervisions[0].text, cut.pred_text)
                writer.write(cut, flush=True)
    CutSet.from_jsonl_lazy(f"{out}/all.jsonl").filter(lambda cut: cut.wer <= 0.3).to_file(f"{out}/kept.jsonl")


if __name__ == "__main__":
    main(*sys.argv[1:])
