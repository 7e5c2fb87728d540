"""Give the trained CTC recogniser a transducer, train both heads together on the CPU, and save the hybrid."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from nemo.utils import logging as nemo_logging

from .model import build_hybrid, load_model, save_in_half
from .train_model import Example, draw_utterances, encode, make_examples, measure_wer, train

if TYPE_CHECKING:
    from nemo.collections.asr.models import EncDecHybridRNNTCTCModel

QUICKSTART = Path(__file__).resolve().parent.parent
CTC_WEIGHT = 0.3
TRAINED_LEARNING_RATE = 2e-4
FRESH_LEARNING_RATE = 3e-3  # the transducer has everything to learn yet


def transducer_loss(
    logits: torch.Tensor, letters: torch.Tensor, steps: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """Return the mean transducer loss of a batch; the blank is the last class.

    Vectorised over batch and letters with a loop over time, because NeMo's loss on the CPU visits cell by cell.

    Args:
        logits: joint outputs of shape (batch, time, letters + 1, classes).
        letters: targets of shape (batch, letters).
        steps, lengths: how many of them are no padding.
    """
    log_probs = logits.float().log_softmax(-1)
    batch, time_steps, states, classes = log_probs.shape
    blank = log_probs[..., classes - 1]
    index = letters[:, None, :, None].expand(batch, time_steps, states - 1, 1)
    emit = log_probs[:, :, :-1, :].gather(3, index)[..., 0]
    # emitted[t, u]: log probability of saying the first u letters without moving on from time t
    emitted = torch.cat([blank.new_zeros(batch, time_steps, 1), emit.cumsum(2)], dim=2)
    reached = [emitted[:, 0]]
    for t in range(1, time_steps):
        arrived = reached[-1] + blank[:, t - 1]
        reached.append(emitted[:, t] + torch.logcumsumexp(arrived - emitted[:, t], dim=1))
    alpha = torch.stack(reached, dim=1)
    row = torch.arange(batch)
    return -(alpha[row, steps - 1, lengths] + blank[row, steps - 1, lengths]).mean()


def compute_loss(model: EncDecHybridRNNTCTCModel, batch: list[Example]) -> torch.Tensor:
    """Return the weighted sum of transducer and CTC loss of one batch."""
    encoded, steps, letters, lengths = encode(model, batch)
    predicted, _, _ = model.decoder(targets=letters, target_length=lengths)
    joint = model.joint(encoder_outputs=encoded, decoder_outputs=predicted)
    ctc = model.ctc_loss(
        log_probs=model.ctc_decoder(encoder_output=encoded),
        targets=letters,
        input_lengths=steps,
        target_lengths=lengths,
    )
    return (1 - CTC_WEIGHT) * transducer_loss(joint, letters, steps, lengths) + CTC_WEIGHT * ctc


def main() -> None:
    """Take over what is trained, train, save, restore, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ctc", type=Path, default=QUICKSTART / "recipe" / "ctc.nemo", help="from train_model")
    parser.add_argument("--out", type=Path, default=QUICKSTART / "model.nemo")
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="one is the fastest on a machine that is busy")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    nemo_logging.setLevel("ERROR")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    random.seed(arguments.seed)

    ctc = load_model(arguments.ctc)
    model = build_hybrid()
    model.encoder.load_state_dict(ctc.encoder.state_dict())
    model.ctc_decoder.load_state_dict(ctc.decoder.state_dict())
    examples = make_examples(model, draw_utterances(arguments.utterances, arguments.seed))
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(examples)} clips")
    trained = [*model.encoder.parameters(), *model.ctc_decoder.parameters()]
    fresh = [*model.decoder.parameters(), *model.joint.parameters()]
    train(model, examples, arguments.epochs, compute_loss, {TRAINED_LEARNING_RATE: trained, FRESH_LEARNING_RATE: fresh})
    save_in_half(model, arguments.out)

    held_out = draw_utterances(100, arguments.seed + 1, held_out=True)
    wer = measure_wer(load_model(arguments.out), held_out)
    print(f"{arguments.out.stat().st_size} bytes, WER {wer:.4f} on {len(held_out)} held-out strings")


if __name__ == "__main__":
    main()
