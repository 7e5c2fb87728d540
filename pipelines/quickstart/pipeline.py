"""The quickstart in Python, equal to pipeline.yaml. It finds its data from any working directory."""

from pathlib import Path

from curate import Pipeline
from curate.stages import InferenceAsrNemoStage, Merge, Partition, QualityFilter, ReadManifest, WordErrorRate

HERE = Path(__file__).resolve().parent

pipeline = (
    Pipeline(name="quickstart")
    .add_stage(ReadManifest(str(HERE / "data" / "manifest.jsonl")))
    .add_stage(Partition())
    .add_stage(InferenceAsrNemoStage(model_name=str(HERE / "model.nemo")).with_(name="asr", batch_size=16))
    .add_stage(WordErrorRate().with_(name="wer"))
    .add_stage(QualityFilter("wer <= 0.3 and 0.5 <= duration <= 30").with_(name="quality"))
    .add_stage(Merge("curated.jsonl"))
)

if __name__ == "__main__":
    result = pipeline.run(run_dir="runs/quickstart-python")
    print(f"{result.summary['kept']} of {result.summary['records_in']} records kept, in {result.outputs[0]}")
