"""`punctuate` with a token classifier of Hugging Face: a tiny one, trained here on a dozen sentences."""

from __future__ import annotations

import importlib.util
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from curate import AudioBatch, Pipeline
from curate.errors import PlanError
from curate.records import Record
from curate.stages import Punctuate, ReadRecords
from curate.text.punctuation import _Classifier  # pyright: ignore[reportPrivateUsage]

pytestmark = [
    pytest.mark.nemo,  # needs torch, which comes with NeMo
    pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs the extra `punctuation`"),
]

SENTENCES = [
    "where are you?",
    "who are you?",
    "what is this?",
    "i am here.",
    "this is good.",
    "you are good.",
    "yes, i am here.",
    "no, this is good.",
    "yes, who is this?",
    "where is this?",
    "i am good.",
    "no, you are here.",
]
MARKS = ["0", ".", ",", "?"]
CASED = ["OO", "OU", ".O", ".U", ",O", ",U", "?O", "?U"]


def split(sentence: str) -> list[tuple[str, str]]:
    return re.findall(r"(\w+)([.,?]?)", sentence)


def train(folder: Path, labels: list[str], *, cased: bool) -> Path:
    import tokenizers
    import torch
    import transformers

    # Several sentences in a row, so that the end of a text is not all that it learns.
    draw = random.Random(0)
    texts = [split(" ".join(draw.choices(SENTENCES, k=draw.choice((1, 2, 3))))) for _ in range(96)]
    words = sorted({word for text in texts for word, _ in text})
    table = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    model_of_words: Any = tokenizers.models.WordLevel(table, unk_token="[UNK]")
    tokenizer: Any = tokenizers.Tokenizer(model_of_words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast: Any = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=256
    )
    torch.manual_seed(0)
    config: Any = transformers.BertConfig(
        vocab_size=len(table),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    model: Any = transformers.BertForTokenClassification(config)
    encoded: Any = fast(
        [[word for word, _ in text] for text in texts], is_split_into_words=True, padding=True, return_tensors="pt"
    )
    wanted = torch.full(encoded["input_ids"].shape, -100)
    for row, text in enumerate(texts):
        begins = True
        for place, (word, mark) in enumerate(text):
            capital = begins or word == "i"
            label = f"{mark or 'O'}{'U' if capital else 'O'}" if cased else mark or "0"
            wanted[row, place] = labels.index(label)
            begins = mark in (".", "?")
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        loss = model(**encoded, labels=wanted).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("marks"), MARKS, cased=False)


@pytest.fixture(scope="module")
def cased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("cased"), CASED, cased=True)


def punctuated(folder: Path, *texts: str, lang: str = "en") -> list[Record]:
    stage = Punctuate(model=str(folder))
    stage.check()
    stage.setup()
    result = stage.process(AudioBatch([{"text": text, "lang": lang} for text in texts]))
    assert isinstance(result, AudioBatch) and not result.failed
    return result.data


@pytest.mark.parametrize("kind", ["marks", "cased"])
def test_marks_and_capitals_are_restored(kind: str, request: pytest.FixtureRequest) -> None:
    rows = punctuated(request.getfixturevalue(kind), "yes i am here who are you", "where is this i am good", "")
    assert [row["text_pnc"] for row in rows] == ["Yes, I am here. Who are you?", "Where is this? I am good.", ""]
    assert [row["text_pnc_fallback"] for row in rows] == [None, None, None]


def test_old_marks_are_replaced_and_words_kept(marks: Path) -> None:
    [record] = punctuated(marks, "who, are you. i am good")
    assert record["text_pnc"] == "Who are you? I am good."


class _Places(_Classifier):
    """A classifier that labels a word with itself and its place in the window."""

    def __init__(self) -> None:
        self.cased = False

    def _classified(self, windows: Sequence[tuple[int, int, list[str]]]) -> Iterator[list[str]]:
        for _, _, words in windows:
            yield [f"{word} {place} {len(words)}" for place, word in enumerate(words)]


@pytest.mark.parametrize("count", [0, 1, 20, 119, 120, 121, 139, 140, 141, 220, 221, 1000])
def test_long_text_is_labelled_in_windows_with_words_around(count: int) -> None:
    words = [f"w{number}" for number in range(count)]
    [labels] = _Places().label([words])
    assert [label.split()[0] for label in labels] == words
    for number, label in enumerate(labels):
        place, length = map(int, label.split()[1:])
        assert place >= min(number, 10) and length <= 120
        assert length - place > min(count - 1 - number, 9)


def test_english_pronoun_is_a_capital_in_english_only(marks: Path) -> None:
    [english], [italian] = (punctuated(marks, "yes i am here", lang=lang) for lang in ("en", "it"))
    assert (english["text_pnc"], italian["text_pnc"]) == ("Yes, I am here.", "Yes, i am here.")


def test_batch_makes_no_difference(marks: Path) -> None:
    texts = ["yes i am here who are you", "i am good", "where is this"]
    together = [row["text_pnc"] for row in punctuated(marks, *texts)]
    assert together == [punctuated(marks, text)[0]["text_pnc"] for text in texts]


def test_model_runs_in_workers(marks: Path, tmp_path: Path) -> None:
    stages = [ReadRecords([{"text": "who are you", "lang": "en"}]), Punctuate(model=str(marks))]
    result = Pipeline("p", stages).run(executor="multiprocessing", run_dir=tmp_path)
    assert [record["text_pnc"] for record in result.records()] == ["Who are you?"]


def test_changed_model_changes_the_fingerprint(marks: Path, cased: Path) -> None:
    assert Punctuate(model=str(marks)).fingerprint() != Punctuate(model=str(cased)).fingerprint()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not the folder of a model"),
        ("{}", "names no labels"),
        ("[", "names no labels"),
        (json.dumps({"id2label": {"0": "PER", "1": "LOC"}}), "none of its labels is a punctuation mark"),
    ],
)
def test_wrong_model_is_a_mistake_in_the_plan(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords([{"text": "a"}]), Punctuate(model=str(tmp_path))]).plan()
