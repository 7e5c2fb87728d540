"""Type checkers see the public face: wrong programs are errors, right ones are none."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WRONG = {
    "import": "from curate import Pipelin\n",
    "stage_import": "from curate.stages import ReadManifes\n",
    "method": "from curate import Pipeline\n\nPipeline('p').ad_stage(1)\n",
    "verb": "from curate import Pipeline\n\nPipeline('p').runn()\n",
    "keyword": "from curate.stages import QualityFilter\n\nQualityFilter('wer < 0.3', colums=['a'])\n",
    "type": "from curate import Resources\n\nResources(cpus='many')\n",
    "resource": "from curate import Resources\n\nResources(num_gpus=1)\n",
}
"""Name → a program with exactly one mistake."""

RIGHT = """
from curate import AudioBatch, Pipeline, ProcessingStage, Resources, __version__, processing_stage
from curate.stages import DynamicBatchAsrStage, Merge, Partition, QualityFilter, ReadManifest, WordErrorRate


@processing_stage(name="shout", writes=["text"])
def shout(record: dict[str, str]) -> dict[str, str]:
    return {**record, "text": record["text"].upper()}


class Keep(ProcessingStage):
    name = "keep"
    batch_size = 4

    def process(self, batch: AudioBatch) -> AudioBatch:
        return batch


asr = DynamicBatchAsrStage(model_name="model.nemo").with_(resources=Resources(gpus=1.0, memory="6GB"), workers=4)
pipeline = (
    Pipeline(name="curation")
    .add_stage(ReadManifest("corpus.jsonl"))
    .add_stage(Partition(max_records=8192))
    .add_stage(asr)
    .add_stage(WordErrorRate())
    .add_stage(shout.with_(fuse=False))
    .add_stage(Keep())
    .add_stage(QualityFilter("wer <= 0.3 and 0.5 <= duration <= 30"))
    .add_stage(Merge("curated.jsonl"))
)
print(__version__, pipeline.run(executor="multiprocessing", run_dir="runs/today").records())
"""


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="needs pyright (the extra `dev`)")
def test_a_type_checker_finds_each_mistake_and_no_other(tmp_path: Path) -> None:
    for name, code in {**WRONG, "right": RIGHT}.items():
        (tmp_path / f"{name}.py").write_text(code)
    settings = {"typeCheckingMode": "basic", "extraPaths": [str(ROOT)], "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.stdout, done.stderr

    errors = [one for one in json.loads(done.stdout)["generalDiagnostics"] if one["severity"] == "error"]
    found = Counter(Path(one["file"]).stem for one in errors)

    assert found == dict.fromkeys(WRONG, 1), "\n".join(f"{one['file']}: {one['message']}" for one in errors)
