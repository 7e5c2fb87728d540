"""NeMo Curator: python measures_curator.py MANIFEST_FOLDER OUT."""

import sys

from nemo_curator.backends.ray_data import RayDataExecutor
from nemo_curator.core.client import RayClient
from nemo_curator.pipeline import Pipeline
from nemo_curator.stages.audio.common import GetAudioDurationStage, ManifestReader
from nemo_curator.stages.audio.io.convert import AudioToDocumentStage
from nemo_curator.stages.audio.metrics.bandwidth import BandwidthEstimationStage
from nemo_curator.stages.text.io.writer import JsonlWriter


def main(manifests: str, out: str) -> None:
    stages = [
        ManifestReader(manifests),
        GetAudioDurationStage(),
        BandwidthEstimationStage(),
        AudioToDocumentStage(),
        JsonlWriter(f"{out}/kept", mode="overwrite"),
    ]
    with RayClient(num_cpus=4, include_dashboard=False, ray_temp_dir=f"{out}/ray"):
        Pipeline("measures", stages=stages).run(RayDataExecutor())


if __name__ == "__main__":
    main(*sys.argv[1:])
