"""datatrove: python trove.py MANIFEST_FOLDER OUT MODEL; it has no speech, so recognition is a step of our own."""

import sys
from typing import Any, ClassVar

import jiwer
import soundfile
import torch
from datatrove.data import Document, DocumentsPipeline
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.batching import batched


class Transcribe(PipelineStep):
    name = "transcribe"
    models: ClassVar[dict[str, Any]] = {}

    def __init__(self, model: str, batch_size: int) -> None:
        super().__init__()
        self.model, self.batch_size = model, batch_size

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        from nemo.collections.asr.models import ASRModel

        if self.model not in self.models:  # loaded once for all tasks of a process
            self.models[self.model] = ASRModel.restore_from(self.model, map_location=torch.device("cpu"))
        for batch in batched(data, self.batch_size):
            samples = [soundfile.read(each.metadata["audio_filepath"], dtype="float32")[0] for each in batch]
            with self.track_time(), torch.inference_mode():
                found = self.models[self.model].transcribe(samples, batch_size=len(samples), verbose=False)
            for each, result in zip(batch, found, strict=True):
                each.metadata["pred_text"] = getattr(result, "text", result)
                each.metadata["wer"] = jiwer.wer(each.text, each.metadata["pred_text"])
                yield each


def keep(document: Document) -> bool:
    return document.metadata["wer"] <= 0.3 and 0.5 <= document.metadata["duration"] <= 30


def main(manifests: str, out: str, model: str) -> None:
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(manifests),
            Transcribe(model, batch_size=16),
            LambdaFilter(keep, exclusion_writer=JsonlWriter(f"{out}/filtered", compression=None)),
            JsonlWriter(f"{out}/kept", compression=None),
        ],
        tasks=8,
        workers=1,
        logging_dir=f"{out}/logs",
    ).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
