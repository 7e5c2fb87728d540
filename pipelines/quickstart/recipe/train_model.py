"""Synthesise training speech, train the CTC recogniser on the CPU, and save it with fp16 weights."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jiwer
import torch
from nemo.utils import logging as nemo_logging
from torch.nn.utils.rnn import pad_sequence

from .model import LETTERS, build_model, load_model, save_in_half, transcribe
from .speech import Utterance, draw_text, draw_utterance, speak

if TYPE_CHECKING:
    from nemo.collections.asr.models import EncDecCTCModel

QUICKSTART = Path(__file__).resolve().parent.parent
NARROWBAND_SHARE = 0.15
LONGEST_WORDS = 18
MEAN_WORDS = 4.5
BATCH_FRAMES = 3_000  # padded feature frames of 10 ms: what stays in the cache trains fastest
PEAK_LEARNING_RATE = 1.5e-3


class Example(NamedTuple):
    """One training clip: features of shape (mels, frames), and the indices of its letters."""

    features: torch.Tensor
    letters: torch.Tensor


def draw_utterances(count: int, seed: int, *, held_out: bool = False) -> list[Utterance]:
    """Draw `count` utterances of up to `LONGEST_WORDS` digits, short ones being the more frequent."""
    rng = random.Random(seed)
    utterances = []
    for _ in range(count):
        words = min(LONGEST_WORDS, 1 + int(rng.expovariate(1 / MEAN_WORDS)))
        text = draw_text(rng, max(words, 2) if held_out else words, held_out=held_out)
        utterances.append(draw_utterance(rng, text, narrowband_share=NARROWBAND_SHARE))
    return utterances


def make_examples(model: EncDecCTCModel, utterances: list[Utterance]) -> list[Example]:
    """Speak the utterances and compute their features once, for all epochs."""
    model.eval()
    examples = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool, torch.no_grad():
        for utterance, clip in zip(utterances, pool.map(speak, utterances), strict=True):
            signal = torch.from_numpy(clip)[None]
            features, frames = model.preprocessor(input_signal=signal, length=torch.tensor([len(clip)]))
            letters = torch.tensor([LETTERS.index(letter) for letter in utterance.text])
            examples.append(Example(features[0, :, : frames[0]].clone(), letters))
    return examples


def cut_batches(examples: list[Example]) -> list[list[Example]]:
    """Group examples of similar length into batches of at most `BATCH_FRAMES` padded frames."""
    batches: list[list[Example]] = [[]]
    for example in sorted(examples, key=lambda example: example.features.shape[1]):
        if (len(batches[-1]) + 1) * example.features.shape[1] > BATCH_FRAMES:
            batches.append([])
        batches[-1].append(example)
    return batches


class Padded(NamedTuple):
    """A batch: encoder outputs with their lengths, and letters with theirs."""

    encoded: torch.Tensor
    steps: torch.Tensor
    letters: torch.Tensor
    lengths: torch.Tensor


def encode(model: Any, batch: list[Example]) -> Padded:
    """Pad a batch, mask parts of its features, and run the encoder."""
    frames = torch.tensor([example.features.shape[1] for example in batch])
    lengths = torch.tensor([len(example.letters) for example in batch])
    features = pad_sequence([example.features.T for example in batch], batch_first=True).mT
    letters = pad_sequence([example.letters for example in batch], batch_first=True)
    augmented = model.spec_augmentation(input_spec=features, length=frames)
    encoded, steps = model.encoder(audio_signal=augmented, length=frames)
    return Padded(encoded, steps, letters, lengths)


def compute_loss(model: EncDecCTCModel, batch: list[Example]) -> torch.Tensor:
    """Return the CTC loss of one batch."""
    encoded, steps, letters, lengths = encode(model, batch)
    log_probs = model.decoder(encoder_output=encoded)
    return model.loss(log_probs=log_probs, targets=letters, input_lengths=steps, target_lengths=lengths)


def train(
    model: Any,
    examples: list[Example],
    epochs: int,
    loss_of: Callable[[Any, list[Example]], torch.Tensor],
    parameters: dict[float, list[torch.nn.Parameter]],
) -> None:
    """Train in place for `epochs` passes over `examples` with AdamW and a one-cycle schedule.

    `parameters` are those to train, by their peak learning rate.
    """
    batches = cut_batches(examples)
    groups = [{"params": group} for group in parameters.values()]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, list(parameters), total_steps=epochs * len(batches), pct_start=0.15
    )
    model.train()
    started_s = time.monotonic()
    for epoch in range(epochs):
        random.shuffle(batches)
        total = 0.0
        for batch in batches:
            loss = loss_of(model, batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        mean = total / len(batches)
        print(f"epoch {epoch + 1}/{epochs} loss {mean:.3f} {time.monotonic() - started_s:.0f} s", flush=True)
    model.eval()


def measure_wer(model: Any, utterances: list[Utterance]) -> float:
    """Return the word error rate over held-out utterances."""
    hypotheses = [transcribe(model, [speak(utterance)])[0] for utterance in utterances]
    return jiwer.wer([utterance.text for utterance in utterances], hypotheses)


def main() -> None:
    """Train, save, restore, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=QUICKSTART / "recipe" / "ctc.nemo")
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--threads", type=int, default=1, help="one is the fastest on a machine that is busy")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    nemo_logging.setLevel("ERROR")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    random.seed(arguments.seed)

    model = build_model()
    examples = make_examples(model, draw_utterances(arguments.utterances, arguments.seed))
    audio_s = sum(example.features.shape[1] for example in examples) / 100
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(examples)} clips, {audio_s:.0f} s of speech")
    train(model, examples, arguments.epochs, compute_loss, {PEAK_LEARNING_RATE: list(model.parameters())})
    save_in_half(model, arguments.out)

    held_out = draw_utterances(100, arguments.seed + 1, held_out=True)
    wer = measure_wer(load_model(arguments.out), held_out)
    print(f"{arguments.out.stat().st_size} bytes, WER {wer:.4f} on {len(held_out)} held-out strings")


if __name__ == "__main__":
    main()
