"""`text_rates` with a tokenizer: tokens, and whether they fit a model."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from curate import AudioBatch, Pipeline, ProcessingStage
from curate.errors import PlanError
from curate.records import Record
from curate.stages import Merge, QualityFilter, ReadRecords, TextRates
from curate.testing import StageContract

sentencepiece: Any = pytest.importorskip("sentencepiece", reason="the extra `tokenizers` is not installed")
tokenizers: Any = pytest.importorskip("tokenizers", reason="the extra `tokenizers` is not installed")

_FOLDER = tempfile.TemporaryDirectory(prefix="curate-tokens-")  # the stage of a contract has no folder of its own
SENTENCES = ["the cat sat on the mat", "a dog and a cat", "committee of three cats", "book keeper balloon"] * 20


def done(stage: ProcessingStage, *records: Record) -> list[Record]:
    stage.setup()
    result = stage.process(AudioBatch(list(records)))
    assert isinstance(result, AudioBatch)
    return result.data


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pieces")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder / "tokenizer.model"


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of Hugging Face: one token a letter, and two around each text."""
    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2, **{c: n for n, c in enumerate("abcdefghijklmnopqrstuvwxyz ", 3)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    path = tmp_path_factory.mktemp("letters") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def nemo(path: Path, config: Any, **files: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in {"model_config.yaml": yaml.safe_dump(config).encode(), **files}.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


CONFIG = {"preprocessor": {"window_stride": 0.01}, "encoder": {"subsampling_factor": 8}}


class TestTextRatesWithTokenizer(StageContract):
    def stage(self) -> ProcessingStage:
        path = Path(_FOLDER.name, "letters.nemo")
        if not path.exists():
            nemo(path, {**CONFIG, "labels": [" ", *"abcdefghijklmnopqrstuvwxyz"]})
        return TextRates(tokenizer=str(path), max_tokens=10)

    def records(self, folder: Path) -> Sequence[Record]:
        return [{"text": "one two", "duration": 2.0}, {"text": "x" * 30, "duration": 5}, {"text": None, "duration": 1}]


def test_sentencepiece_counts_its_own_pieces(pieces: Path) -> None:
    expected = sentencepiece.SentencePieceProcessor(model_file=str(pieces)).encode("the cat sat")
    [record] = done(TextRates(tokenizer=str(pieces)), {"text": "the cat sat", "duration": 2.0})
    assert (record["tokens"], record["tokens_per_s"]) == (len(expected), len(expected) / 2)
    assert "label_fit" not in record


@pytest.mark.parametrize(
    ("text", "duration_s", "tokens", "fit"),
    [
        ("abc", 0.24, 3, 0),
        ("abc", 0.239, 3, -1),
        ("aab", 0.24, 3, -1),
        ("aaaa", 0.56, 4, 0),
        ("", 1.0, 0, 12),
    ],
)
def test_label_fit_is_frames_minus_tokens_minus_adjacent_repeats(
    letters: Path, text: str, duration_s: float, tokens: int, fit: int
) -> None:
    stage = TextRates(tokenizer=str(letters), frame_s=0.08)
    [record] = done(stage, {"text": text, "duration": duration_s})
    assert (record["tokens"], record["label_fit"]) == (tokens, fit)


def test_max_tokens_includes_special_tokens(letters: Path) -> None:
    rows = done(
        TextRates(tokenizer=str(letters), max_tokens=448),
        {"text": "a" * 446, "duration": 1.0},
        {"text": "a" * 447, "duration": 1.0},
    )
    assert [row["label_fit"] for row in rows] == [0, -1]


def test_truncation_of_the_file_does_not_hide_tokens(letters: Path, tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(letters))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    [record] = done(TextRates(tokenizer=str(tmp_path)), {"text": "abcdefgh", "duration": 1.0})
    assert record["tokens"] == 8


def test_nemo_checkpoint_gives_pieces_and_frame_length(pieces: Path, tmp_path: Path) -> None:
    config = CONFIG | {"tokenizer": {"type": "bpe", "model_path": "nemo:abc_tokenizer.model"}}
    path = nemo(tmp_path / "m.nemo", config, **{"abc_tokenizer.model": pieces.read_bytes()})
    tokens = len(sentencepiece.SentencePieceProcessor(model_file=str(pieces)).encode("the mat"))
    [record] = done(TextRates(tokenizer=str(path)), {"text": "the mat", "duration": 1.0})
    assert (record["tokens"], record["label_fit"]) == (tokens, 12 - tokens)


def test_nemo_checkpoint_of_characters_counts_those_of_its_labels(tmp_path: Path) -> None:
    path = nemo(tmp_path / "m.nemo", CONFIG | {"decoder": {"vocabulary": list(" abc")}})
    [record] = done(TextRates(tokenizer=str(path), frame_s=0.1), {"text": "ab, bb!", "duration": 1.0})
    assert (record["tokens"], record["label_fit"]) == (5, 10 - 5 - 1)


def test_tokenizer_travels_to_workers_by_value(letters: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tokenizer.json"
    copy.write_bytes(letters.read_bytes())
    records = [{"text": "abc", "duration": 1.0}, {"text": "a" * 50, "duration": 1.0}]
    stages = [
        ReadRecords(records),
        TextRates(tokenizer=str(copy), frame_s=0.04),
        QualityFilter("label_fit >= 0"),
        Merge("out.jsonl"),
    ]
    result = Pipeline("p", stages).run(executor="multiprocessing", run_dir=tmp_path / "run")
    assert [json.loads(line)["tokens"] for line in (tmp_path / "run/out.jsonl").read_text().splitlines()] == [3]
    assert (result.summary["kept"], result.summary["filtered"]) == (1, 1)


def test_plan_knows_whether_label_fit_is_written(letters: Path) -> None:
    stages = [ReadRecords([{"text": "a", "duration": 1.0}]), TextRates(tokenizer=str(letters))]
    with pytest.raises(PlanError, match="label_fit"):
        Pipeline("p", [*stages, QualityFilter("label_fit >= 0")]).plan()


def test_changed_tokenizer_changes_the_fingerprint(letters: Path, pieces: Path, tmp_path: Path) -> None:
    one, two = (TextRates(tokenizer=str(path)).fingerprint() for path in (letters, pieces))
    assert one != two


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.model", None, "cannot be read: No such file"),
        ("a.txt", b"x", "must be a SentencePiece"),
        ("a.model", b"not a model", "cannot be read as sentencepiece"),
        ("a.model", b"", "is empty"),
        ("tokenizer.json", b"{}", "cannot be read as huggingface"),
        ("a.nemo", b"not a tar", "is not a .nemo file"),
    ],
)
def test_wrong_tokenizer_is_a_mistake_in_the_plan(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    stage = TextRates(tokenizer=str(tmp_path / name))
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords([{"text": "a", "duration": 1.0}]), stage]).plan()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CONFIG | {"tokenizer": {"type": "agg"}}, "of type 'agg'"),
        (CONFIG | {"tokenizer": {"type": "bpe", "model_path": "nemo:gone.model"}}, "has no 'gone.model'"),
        ({"labels": ["a"]}, "set frame_s"),
        ([], "not a mapping"),
    ],
)
def test_wrong_checkpoint_is_a_mistake_in_the_plan(tmp_path: Path, config: Any, message: str) -> None:
    stage = TextRates(tokenizer=str(nemo(tmp_path / "m.nemo", config)))
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords([{"text": "a", "duration": 1.0}]), stage]).plan()


@pytest.mark.parametrize("settings", [{"frame_s": 0.08}, {"max_tokens": 448}])
def test_limits_without_a_tokenizer_are_a_mistake_in_the_plan(settings: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="set tokenizer"):
        TextRates(**settings).check()
