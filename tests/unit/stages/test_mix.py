"""A mixture of inputs: hours in proportion to weights, one order for any number of threads, repeats, and books."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline
from curate.config import load_pipeline
from curate.engine import RunOptions
from curate.errors import ConfigError, PlanError, RunDirectoryError
from curate.plugin import PluginHost
from curate.records import Record
from curate.stage import Source
from curate.stages import Merge, MixReader, ReadManifest, Sort
from curate.stages.sources.mixture import hours_weights
from curate.testing import SourceContract


def manifest(path: Path, hours: float, longest_s: float = 20.0, seed: int = 0) -> str:
    """Write lines with a total of these hours."""
    numbers = random.Random(f"{path.name} {seed}")
    left = hours * 3600
    with path.open("w") as file:
        while left > 0:
            duration = round(numbers.uniform(1, longest_s), 2)
            left -= duration
            file.write(json.dumps({"audio_filepath": f"{path.stem}.wav", "duration": duration}) + "\n")
    return str(path)


def sources(folder: Path, hours: Sequence[float], longest_s: Sequence[float] = ()) -> list[Source]:
    return [
        ReadManifest(
            manifest(folder / f"c{number}.jsonl", each, longest_s[number] if longest_s else 20.0),
            dataset_name=f"c{number}",
        )
        for number, each in enumerate(hours)
    ]


def read(mix: Source) -> list[Record]:
    records = list(mix.read())
    assert all(isinstance(record, dict) for record in records)
    return records  # pyright: ignore[reportReturnType]


def hours_of(records: Sequence[Record]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for record in records:
        found[record["dataset_name"]] += record["duration"] / 3600
    return found


class TestMix(SourceContract):
    def source(self, folder: Path) -> Source:
        path = folder / "a.jsonl"
        lines = ['{"duration": 1.5, "text": "one"}', "no JSON", '{"duration": 2.5, "text": "two"}']
        path.write_text("\n".join(lines) + "\n")
        (folder / "b.csv").write_text("duration,text\n4.0,three\n2.0,four\n")
        both: list[Source] = [
            ReadManifest(str(path), dataset_name="a"),
            ReadManifest(str(folder / "b.csv"), dataset_name="b"),
        ]
        return MixReader(both, weights={"a": 1, "b": 2})


def test_hours_follow_the_weights_and_not_the_number_of_records(tmp_path: Path) -> None:
    """10, 100 and 1,000 h at β 0.5, with records of very different lengths, mixed for 500 h."""
    hours = {f"c{number}": each for number, each in enumerate((10.0, 100.0, 1000.0))}
    mix = MixReader(
        sources(tmp_path, list(hours.values()), (5, 40, 15)), hours=hours, beta_corpus=0.5, stop={"hours": 500}
    )
    mix.check()
    records = read(mix)
    found, weights = hours_of(records), hours_weights({(name, ""): each for name, each in hours.items()}, 0.5, 0.5)
    assert sum(found.values()) == pytest.approx(500, abs=40 / 3600)
    for name in hours:
        assert found[name] == pytest.approx(500 * weights[name, ""], abs=40 / 3600 + 0.005 * 500 * weights[name, ""])
    assert len({record["_id"] for record in records}) == len(records)
    repeats = {record["_id"].partition("#")[2] for record in records if record["dataset_name"] == "c0"}
    assert {"", "2", "3"} <= repeats
    realised = mix.describe_reading()["partitions"]
    assert realised["c0"]["passes"] > 3 and realised["c2"]["passes"] == 1
    assert {name: row["hours"] for name, row in realised.items()} == {
        name: pytest.approx(each, abs=1e-3) for name, each in found.items()
    }
    assert sum(row["wanted"] for row in realised.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("stop", ["all", "first", {"hours": 3}])
def test_order_is_the_same_with_any_number_of_threads(stop: Any, tmp_path: Path) -> None:
    some = sources(tmp_path, (0.5, 1, 2))
    weights = {"c0": 1.0, "c1": 1.0, "c2": 2.0}
    orders = [
        [record["_id"] for record in read(MixReader(some, weights, stop=stop, max_workers=threads, prefetch=prefetch))]
        for threads, prefetch in ((1, 1), (30, 1), (4, 5), (0, 1), (None, 1), (2, 0))
    ]
    assert all(order == orders[0] for order in orders)
    assert orders[0] != [record["_id"] for record in read(MixReader(some, weights, stop=stop, seed=1))]
    if stop == "all":
        everything = [record["_id"] for source in some for record in read(source)]
        assert sorted(orders[0]) == sorted(everything)
        assert [
            record["_id"] for record in read(MixReader(some))
        ] == everything  # without weights they follow one another


def test_weights_count_a_language_inside_its_corpus() -> None:
    hours = {("a", "de"): 9.0, ("a", "fr"): 1.0, ("b", "de"): 90.0}
    found = hours_weights(hours, 0.5, 0.5)
    assert found["b", "de"] == pytest.approx(3 / 4)
    assert found["a", "de"] == pytest.approx(3 / 16) and found["a", "fr"] == pytest.approx(1 / 16)
    assert hours_weights(hours, 1, 1) == pytest.approx({("a", "de"): 0.09, ("a", "fr"): 0.01, ("b", "de"): 0.9})
    assert hours_weights(hours, 0, 0)["b", "de"] == 0.5


def test_hours_come_from_a_table_of_corpora_and_languages(tmp_path: Path) -> None:
    some = sources(tmp_path, (0.1, 0.1))
    both: list[Source] = [some[0].with_(dataset_name="x", lang="de"), some[1].with_(dataset_name="x", lang="fr")]
    table = tmp_path / "hours.tsv"
    table.write_text("corpus\tlanguage\thours\nx\tde\t9\nx\tfr\t1\nother\tde\t5\n")
    mix = MixReader(both, hours=str(table), beta_corpus=0.5)
    mix.check()
    read(mix)
    realised = mix.describe_reading()["partitions"]
    assert {name: row["wanted"] for name, row in realised.items()} == {"x/de": 0.75, "x/fr": 0.25}
    table.write_text("corpus\tlanguage\thours\nx\tde\t9\n")
    with pytest.raises(PlanError, match="hours has no x/fr"):
        mix.check()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": []}, "at least one"),
        ({"weights": {"c0": 1.0}}, "weights has no c1"),
        ({"weights": {"c0": 1.0, "c1": 1.0, "c9": 1.0}}, "weights has c9, which names no input; the inputs are c0, c1"),
        ({"weights": {"c0": 1.0, "c1": 0.0}}, "must be a number above 0"),
        ({"beta_corpus": 0.5, "hours": {"c0": 3.0}}, "hours has no c1"),
        ({"beta_corpus": 2.0}, "between 0 and 1"),
        ({"beta_language": 0.5}, "need beta_corpus"),
        ({"beta_corpus": 0.5, "weights": {"c0": 1.0, "c1": 1.0}}, "choose one"),
        ({"stop": "first"}, "needs weights"),
        ({"beta_corpus": 0.5, "stop": {"hours": 0}}, "must be all, first"),
        ({"beta_corpus": 0.5, "stop": "last"}, "must be all, first"),
        ({"max_workers": -1}, "at least 0"),
    ],
)
def test_mistake_is_found_in_the_plan(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    mix = MixReader(**{"sources": sources(tmp_path, (0.01, 0.01)), **settings})
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [mix]).plan()


def test_inputs_that_cannot_be_mixed_are_found_in_the_plan(tmp_path: Path) -> None:
    some = sources(tmp_path, (0.01, 0.01))
    for wrong, message in (
        ([some[0], some[0].with_(dataset_name="other")], "an input of two sources"),
        ([some[0], some[1].with_(dataset_name="c0")], "two sources have the name 'c0'"),
        ([some[0], Sort(["duration"])], "sort is not a source"),
    ):
        with pytest.raises(PlanError, match=message):
            MixReader(wrong).check()  # pyright: ignore[reportArgumentType]
    (tmp_path / "d.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(PlanError, match="have no `duration`"):
        MixReader([some[0], ReadManifest(str(tmp_path / "d.jsonl"), dataset_name="d")], beta_corpus=0.5).check()


PIPELINE = """
stages:
  - use: mix
    stop: {hours: 0.6}
    weights: {books: 3, calls: 1}
    sources:
      - {use: read_manifest, manifest: a.jsonl, dataset_name: books, lang: en}
      - {use: read_manifest, manifest: b.csv, dataset_name: calls}
  - use: merge
    path: out.jsonl
"""


def test_pipeline_file_nests_readers_and_the_run_shows_the_realised_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest(tmp_path / "a.jsonl", 0.1)
    (tmp_path / "b.csv").write_text("duration,text\n" + "".join(f"{n % 9 + 1}.5,x\n" for n in range(90)))
    path = tmp_path / "p.yaml"
    path.write_text(PIPELINE)
    pipeline = load_pipeline(path, host=PluginHost(environment={"CURATE_PLUGINS": ""})).pipeline
    summary = pipeline.run(run_dir="run").summary
    realised = summary["by_stage"]["mix"]["performance"]["partitions"]
    assert realised["books"]["share"] == pytest.approx(0.75, abs=0.1)
    rows = [json.loads(line) for line in Path("run/out.jsonl").read_text().splitlines()]
    assert {row["dataset_name"] for row in rows} == {"books", "calls"}
    assert sum(row["duration"] for row in rows) / 3600 == pytest.approx(0.6, abs=0.01)
    with (tmp_path / "b.csv").open("a") as file:
        file.write("3.5,y\n")
    with pytest.raises(RunDirectoryError, match="draws from all its inputs"):
        pipeline.run(run_dir="run", options=RunOptions(grown=True))
    path.write_text(PIPELINE.replace("manifest: b.csv", "manifes: b.csv"))
    with pytest.raises(ConfigError, match=r"p.yaml:8.*manifes"):
        load_pipeline(path, host=PluginHost(environment={"CURATE_PLUGINS": ""}))


def test_resumed_mixture_has_its_table(tmp_path: Path) -> None:
    some = sources(tmp_path, (0.1, 0.2))
    pipeline = Pipeline("p", [MixReader(some, beta_corpus=0.5), Sort(["duration"]), Merge("out.jsonl")])
    first = pipeline.run(run_dir=tmp_path / "run").summary
    (tmp_path / "run" / "summary.json").unlink()
    again = pipeline.run(run_dir=tmp_path / "run").summary
    assert again["by_stage"]["mix"]["performance"] == first["by_stage"]["mix"]["performance"]
