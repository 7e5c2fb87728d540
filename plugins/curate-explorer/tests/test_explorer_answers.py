"""The index and what is answered from it: the same counts as curate's own filter, whatever the records hold."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("curate_explorer", reason="the plugin is not installed: make .venv/.dev-all")
pytest.importorskip("duckdb", reason="needs duckdb: make .venv/.dev-all")

from curate.engine import ErrorBudget, RunOptions, RunReader
from curate.errors import PlanError, RecordError
from curate.expressions import Expression
from curate_explorer.annotations import Annotation, Annotations
from curate_explorer.answers import Answers, filters_of
from curate_explorer.index import Index
from curate_explorer.polygon import inside
from curate_explorer.source import RunSource, open_source
from tests.explored import filtered_run

LENIENT = ErrorBudget(max_failure_ratio=1.0)
ODD: list[dict[str, Any]] = [
    {"text": "a", "Text": "A", "n": 1, "mixed": 1, "deep": {"a": [1]}, "big": 2**60, "flag": True},
    {"text": "b", "n": 2.5, "mixed": "two", "deep": None, "big": 1, "flag": False},
    {"text": None, "n": None, "mixed": [3], "big": 0.5, "flag": None, 'na"me': "x", "": 1},
    {"n": -1, "mixed": True, "text": "<b>"},
]


def index_of(rows: list[dict[str, Any]], folder: Path) -> Index:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    index = Index(open_source(folder / "rows.jsonl"), folder / "cache")
    index.build()
    assert index.error == ""
    return index


KILLED = """
import os, sys
from pathlib import Path
from curate_explorer.index import Index
from curate_explorer.source import open_source
index = Index(open_source(Path(sys.argv[1])), Path(sys.argv[2]))
print(index.rows, index.is_complete, flush=True)
os._exit(0)
"""


def test_two_explorers_of_the_same_rows_make_an_index_each(tmp_path: Path) -> None:
    path, cache = tmp_path / "rows.jsonl", tmp_path / "cache"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ODD))
    first = Index(open_source(path), cache)
    other = [sys.executable, "-c", KILLED, str(path), str(cache)]
    assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "0 False\n"
    first.build()
    assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "0 False\n"
    first.close()
    assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == f"{len(ODD)} True\n"


def answers_of(index: Index, folder: Path) -> Answers:
    source = index.source
    filters = filters_of(source.run) if isinstance(source, RunSource) else []
    return Answers(index, filters, Annotations(folder / "labels.jsonl"))


def test_values_of_every_type_come_back_as_they_were(tmp_path: Path) -> None:
    index = index_of(ODD, tmp_path)
    answers = answers_of(index, tmp_path)
    found = [row["values"] for row in answers.table({})["rows"]]
    wanted = [{name: value for name, value in row.items() if value is not None} for row in ODD]
    assert found == wanted
    kinds = {column.name: column.kind for column in index.columns}
    assert kinds["n"] == "number"
    assert kinds["mixed"] == kinds["big"] == kinds["deep"] == "json"
    assert (kinds["text"], kinds["Text"], kinds["flag"]) == ("text", "text", "boolean")


def test_types_that_change_between_batches_keep_their_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate_explorer.index.BATCH_ROWS", 50)
    rows: list[dict[str, Any]] = [{"a": number, "b": number, "c": "x"} for number in range(300)]
    rows += [{"a": 0.5, "b": "text", "c": 1, "d": True} for _ in range(60)] + [{"b": 7} for _ in range(60)]
    index = index_of(rows, tmp_path)
    answers = answers_of(index, tmp_path)
    shown = [answers.table({"offset": at, "limit": 100})["rows"] for at in range(0, 420, 100)]
    assert [row["values"] for page in shown for row in page] == rows
    assert {column.name: column.kind for column in index.columns} == {
        "a": "number",
        "b": "json",
        "c": "json",
        "d": "boolean",
    }


def test_index_is_made_once_and_again_when_the_manifest_has_changed(tmp_path: Path) -> None:
    index = index_of(ODD, tmp_path)
    index.close()
    again = Index(open_source(tmp_path / "rows.jsonl"), tmp_path / "cache")
    assert (again.is_complete, again.rows, len(again.columns)) == (True, 4, len(index.columns))
    again.close()
    index_of([*ODD, {"text": "one more"}], tmp_path).close()
    assert index_of([*ODD, {"text": "one more"}], tmp_path).rows == 5


def test_expressions_and_the_filter_agree_on_records_of_any_kind(tmp_path: Path) -> None:
    dice = random.Random(3)

    def value(*kinds: str) -> Any:
        kind = dice.choice(kinds)
        return {
            "int": dice.randrange(-3, 4),
            "float": dice.choice([-1.5, 0.0, 0.5, 2.0]),
            "none": None,
            "text": dice.choice(["a", "b", ""]),
            "bool": dice.random() < 0.5,
        }[kind]

    rows = [
        {
            "i": value("int", "none"),
            "f": value("float", "int", "none"),
            "t": value("text", "none"),
            "b": value("bool", "none"),
            "m": value("int", "text", "none", "bool"),
            "c": number,
        }
        for number in range(400)
    ]
    index = index_of(rows, tmp_path)
    answers = answers_of(index, tmp_path)
    atoms = [
        "i > 0", "i <= 1", "f < 0.5", "-1 <= f <= 0.5", "f == 2", "i != 1", "t == 'a'", "t != 'b'", "t in ['a', 'c']",
        "t not in ['a']", "b", "not b", "i is None", "t is not None", "m is None", "m > 1", "m == 'a'", "f > i",
        "missing > 1", "missing is None", "len(t) > 0", "i + 1 > f", "b == True", "0.5 <= f", "True", "i in [1, 2]",
        "i > 0.5", "i <= 1e300", "abs(i) >= 2", "startswith(t, 'a')",
    ]  # fmt: skip
    for _ in range(300):
        parts = dice.choices(atoms, k=dice.randrange(1, 5))
        text = parts[0]
        for part in parts[1:]:
            text = f"{text} {dice.choice(['and', 'or'])} {dice.choice(['', 'not '])}{part}"
            if dice.random() < 0.4:
                text = f"not ({text})" if dice.random() < 0.5 else f"({text})"
        expression = Expression(text)
        assert answers.threshold({"expression": text})["kept"] == sum(keeps(expression, row) for row in rows), text


def keeps(expression: Expression, row: dict[str, Any]) -> bool:
    try:
        return expression.failed_clause(row) is None
    except RecordError:
        return False


def test_counts_are_those_of_a_fork_with_the_expression(tmp_path: Path) -> None:
    dice = random.Random(5)
    records = [
        {"audio_filepath": f"{number}.wav", "text": "one two three four", "duration": round(dice.uniform(0.2, 9), 2),
         "pred_text": " ".join(dice.choices(["one", "two", "three", "four"], k=dice.randrange(0, 6))),
         **({"snr_db": round(dice.gauss(15, 8), 1)} if dice.random() < 0.9 else {}), "lang": dice.choice(["en", "de"])}
        for number in range(300)
    ]  # fmt: skip
    pipeline = filtered_run(tmp_path, records, "wer <= 0.5 and duration > 1")
    pipeline.run("local", run_dir=tmp_path / "run", options=RunOptions(budget=LENIENT))
    source = RunSource(tmp_path / "run")
    index = Index(source, tmp_path / "cache")
    index.build()
    answers = answers_of(index, tmp_path)
    [stage] = answers.filters
    counted: list[int] = []
    for number in range(20):
        text = " and ".join(
            dice.sample(
                [f"wer <= {dice.choice([0, 0.25, 0.5, 1])}", f"duration > {dice.randrange(4)}", "lang == 'en'",
                 f"{dice.randrange(3)} <= duration < {dice.randrange(4, 9)}", f"snr_db >= {dice.randrange(5, 20)}",
                 f"(snr_db is None or snr_db > {dice.randrange(20)})", "wer != 0.25"],
                k=dice.randrange(1, 4),
            )
        )  # fmt: skip
        fork = filtered_run(tmp_path, records, text)
        fork.run(
            "local",
            run_dir=tmp_path / "run",
            max_failure_ratio=1.0,
            options=RunOptions(fork=tmp_path / f"fork-{number}"),
        )
        found = answers.threshold({"expression": text, "filter": stage})
        summary = RunReader(tmp_path / f"fork-{number}").summary
        assert summary is not None
        assert found["kept"] == summary["kept"], text
        counted.append(found["kept"])
    assert len(set(counted)) > 10


def test_search_facets_sort_and_pages_agree_with_the_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": f"Word{number % 7} x", "n": (number * 37) % 100, "lang": "en" if number % 3 else None}
        for number in range(500)
    ]
    answers = answers_of(index_of(rows, tmp_path), tmp_path)
    assert answers.table({"search": "word3"})["total"] == sum("Word3" in str(row["text"]) for row in rows)
    found = answers.table({"sort": "n", "descending": True, "offset": 100, "limit": 5})["rows"]
    wanted = sorted(range(500), key=lambda at: (-rows[at]["n"], at))[100:105]
    assert [row["row"] for row in found] == wanted
    facets = answers.facets({"columns": ["lang"], "facets": {"lang": ["en"]}, "search": "word3"})["lang"]["values"]
    assert {each["value"]: each["records"] for each in facets} == {
        wanted: sum("Word3" in str(row["text"]) and row["lang"] == wanted for row in rows) for wanted in ("en", None)
    }
    assert answers.table({"facets": {"lang": [None]}})["total"] == sum(row["lang"] is None for row in rows)
    assert answers.table({"ranges": {"n": [10, None]}})["total"] == sum(row["n"] >= 10 for row in rows)
    assert answers.state()["facets"] == ["text", "lang"]


def test_deep_pages_are_in_the_same_order_as_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"n": (number * 37) % 100, "t": str(number % 9)} for number in range(400)]
    answers = answers_of(index_of(rows, tmp_path), tmp_path)
    near = [row["row"] for at in (0, 200) for row in answers.table({"sort": "n", "offset": at, "limit": 200})["rows"]]
    monkeypatch.setattr("curate_explorer.answers._NEAR_ROWS", 0)
    deep = [row["row"] for at in (0, 200) for row in answers.table({"sort": "n", "offset": at, "limit": 200})["rows"]]
    assert near == deep
    assert len(set(near)) == 400


def test_polygon_chooses_the_points_inside() -> None:
    import numpy as np

    points = np.random.default_rng(1).uniform(-1, 1, (2, 20_000))
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    star = [(float(r * np.cos(a)), float(r * np.sin(a))) for a, r in zip(angles, [0.9, 0.3] * 30, strict=True)]
    found = inside(points[0], points[1], star)
    wanted = [_winds(x, y, star) for x, y in points.T[:4000]]
    assert found[:4000].tolist() == wanted
    assert 0 < sum(wanted) < 4000


def _winds(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    odd = False
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            odd = not odd
    return odd


def test_labels_survive_a_torn_line_and_the_last_counts(tmp_path: Path) -> None:
    labels = Annotations(tmp_path / "labels.jsonl")
    labels.add(Annotation("a", "accept"))
    labels.add(Annotation("b", "reject", text="corrected", note="music"))
    labels.add(Annotation("a", "reject"))
    with labels.path.open("ab") as file:
        file.write(b'{"id": "c", "verd')
    again = Annotations(tmp_path / "labels.jsonl")
    assert again.counts() == {"accept": 0, "reject": 2, "note": 0}
    assert again.of("b") == Annotation("b", "reject", text="corrected", note="music")
    again.add(Annotation("c", "accept"))
    assert [json.loads(line)["id"] for line in labels.path.read_text().splitlines()] == ["a", "b", "a", "c"]
    (tmp_path / "other.jsonl").write_text('{"text": "a manifest"}\n')
    with pytest.raises(PlanError, match=r"other\.jsonl:1: this is not a label"):
        Annotations(tmp_path / "other.jsonl")


def test_agreement_of_labels_with_an_expression(tmp_path: Path) -> None:
    index = index_of([{"n": number} for number in range(10)], tmp_path)
    answers = answers_of(index, tmp_path)
    names = [row["id"] for row in answers.table({})["rows"]]
    for number, verdict in ((1, "reject"), (5, "accept"), (6, "accept"), (7, "reject"), (2, "accept")):
        answers.annotations.add(Annotation(names[number], verdict))
    found = answers.threshold({"expression": "n >= 5"})["agreement"]
    assert found == {"accepted": 3, "rejected": 2, "precision": 2 / 3, "recall": 2 / 3}
