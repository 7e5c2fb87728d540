"""NeMo Curator: python curator.py MANIFEST_FOLDER OUT [CHECKPOINT], as its tutorial `fleurs` does."""

import sys

from nemo_curator.backends.ray_data import RayDataExecutor
from nemo_curator.core.client import RayClient
from nemo_curator.pipeline import Pipeline
from nemo_curator.stages.audio.common import ManifestReader, PreserveByValueStage
from nemo_curator.stages.audio.inference.asr.stage import ASRStage
from nemo_curator.stages.audio.io.convert import AudioToDocumentStage
from nemo_curator.stages.audio.metrics.wer import GetPairwiseWerStage
from nemo_curator.stages.resources import Resources
from nemo_curator.stages.text.io.writer import JsonlWriter


def main(manifests: str, out: str, checkpoint: str | None = None) -> None:
    stages = [
        ManifestReader(manifests),
        ASRStage(
            adapter_target="nemo_curator.models.asr.nemo_asr.NeMoASRAdapter",
            model_id="local/model",  # takes the name of a model on a hub; the driver lays out its cache
            audio_filepath_key="audio_filepath",
            resources=Resources(cpus=1.0, gpus=0.0),
            batch_size=16,
        ).with_(num_workers=1),
        GetPairwiseWerStage(),
        PreserveByValueStage("wer_pct", 30, "le"),
        PreserveByValueStage("duration", 0.5, "ge"),
        PreserveByValueStage("duration", 30, "le"),
        AudioToDocumentStage(),
        JsonlWriter(f"{out}/kept", mode="ignore" if checkpoint else "overwrite"),
    ]
    with RayClient(num_cpus=4, include_dashboard=False, ray_temp_dir=f"{out}/ray"):
        Pipeline("compare", stages=stages).run(RayDataExecutor(), checkpoint_path=checkpoint)


if __name__ == "__main__":
    main(*sys.argv[1:])
