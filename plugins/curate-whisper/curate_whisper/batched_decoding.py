"""Whisper's decoder on a batch, with early stop: a clip that is finished leaves the batch, and its cache with it.

The decoder computes one token of every clip at a time. Keys and values of earlier tokens are cached, and so are those
of the encoder's output, which are the larger part. When a clip emits the end token, its rows are taken out of all
caches, so that the last steps, which only the longest text needs, cost what one clip costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs


@attrs.frozen
class DecodedTokens:
    """The tokens of one clip.

    Args:
        tokens: without the prompt and the end token.
        log_prob: the sum of their logarithmic probabilities, and of the end token's.
        no_speech_prob: the probability of the token that stands for no speech.
    """

    tokens: list[int]
    log_prob: float
    no_speech_prob: float


@attrs.define
class DecodingSteps:
    """How much was computed.

    Args:
        steps: calls of the decoder.
        rows: the clips in these calls, in sum: without early stop, it would be steps × clips.
    """

    steps: int = 0
    rows: int = 0


class BatchedDecoding:
    """A greedy, or sampling, decoder of one model.

    Args:
        torch: the module.
        model: a `whisper.model.Whisper`.
        end: the end token.
        no_speech: the token that stands for no speech.
        suppressed: tokens that are never emitted.
        suppressed_first: further tokens that do not begin a transcript.
        max_new_tokens: the most tokens of a clip.
    """

    def __init__(
        self,
        torch: Any,
        model: Any,
        *,
        end: int,
        no_speech: int,
        suppressed: Sequence[int],
        suppressed_first: Sequence[int],
        max_new_tokens: int,
    ) -> None:
        self.counted = DecodingSteps()
        self._torch = torch
        self._model = model
        self._end = end
        self._no_speech = no_speech
        self._suppressed = list(suppressed)
        self._suppressed_first = list(suppressed_first)
        self._max_new_tokens = max_new_tokens

    def decode(
        self, encoded: Any, prompts: Sequence[Sequence[int]], *, temperature: float = 0.0, generator: Any = None
    ) -> list[DecodedTokens]:
        """Return the tokens of each clip.

        Args:
            encoded: the encoder's output, (clips, frames, states).
            prompts: the first tokens of each clip, of one length.
            temperature: 0: the most probable token; above, tokens are drawn.
            generator: what draws them.
        """
        torch = self._torch
        tokens: list[list[int]] = [[] for _ in prompts]
        log_probs = [0.0] * len(prompts)
        rows = list(range(len(prompts)))  # the clips in the batch
        last = torch.tensor([list(prompt) for prompt in prompts], device=encoded.device)
        no_speech: list[float] = []
        cache, hooks = self._model.install_kv_cache_hooks()
        try:
            for step in range(self._max_new_tokens):
                logits = self._model.decoder(last, encoded, kv_cache=cache)
                self.counted.steps += 1
                self.counted.rows += len(rows)
                if step == 0:
                    no_speech = logits[:, 0].float().softmax(-1)[:, self._no_speech].tolist()
                chosen, chosen_log_probs = self._choose(logits[:, -1].float(), step, temperature, generator)
                going: list[int] = []
                for place, (token, log_prob) in enumerate(zip(chosen, chosen_log_probs, strict=True)):
                    log_probs[rows[place]] += log_prob
                    if token != self._end:
                        tokens[rows[place]].append(token)
                        going.append(place)
                if not going:
                    break
                if len(going) < len(rows):
                    rows = [rows[place] for place in going]
                    kept = torch.tensor(going, device=encoded.device)
                    encoded = encoded[kept]
                    for module in cache:
                        cache[module] = cache[module][kept]
                last = torch.tensor([[chosen[place]] for place in going], device=encoded.device)
        finally:
            for hook in hooks:
                hook.remove()
        return [DecodedTokens(*one) for one in zip(tokens, log_probs, no_speech, strict=True)]

    def _choose(self, logits: Any, step: int, temperature: float, generator: Any) -> tuple[list[int], list[float]]:
        logits[:, self._suppressed] = -float("inf")
        if step == 0:
            logits[:, self._suppressed_first] = -float("inf")
        log_probs = logits.log_softmax(-1)
        if temperature == 0:
            chosen = logits.argmax(-1)
        else:
            probabilities = (logits / temperature).softmax(-1)
            chosen = self._torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        return chosen.tolist(), log_probs.gather(1, chosen[:, None])[:, 0].tolist()
