"""Make the demo's corpus: held-out clips that a recogniser understands, among records that are faulty on purpose."""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from .speech import RATE_HZ, TELEPHONE_RATE_HZ, Utterance, draw_text, draw_utterance, speak, white_noise

QUICKSTART = Path(__file__).resolve().parent.parent
RECORDS = 56
MEAN_EXTRA_WORDS = 3.0  # beyond two; the lengths are the quantiles of an exponential distribution
NOISE_SHARE = 0.25  # of the training data's noise: quieter clips make smaller files
SILENCE_S = 0.6

Record = dict[str, Any]


class Corpus:
    """A folder under construction; the number of an audio file is the line of its record, counted from 1."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        lengths = [2 + round(-MEAN_EXTRA_WORDS * math.log(1 - (rank + 0.5) / RECORDS)) for rank in range(RECORDS)]
        random.Random(seed).shuffle(lengths)
        self.words = dict(enumerate(lengths, start=1))

    def draw(self, line: int, *, words: int | None = None, take: int = 0) -> Utterance:
        """Return the utterance of a line; another `take` gives another utterance."""
        rng = random.Random(f"{self.seed}-{line}-{take}")
        utterance = draw_utterance(rng, draw_text(rng, words or self.words[line], held_out=True))
        return replace(utterance, noise_level=NOISE_SHARE * utterance.noise_level)

    def write(self, line: int, samples: np.ndarray, rate_hz: int = RATE_HZ, extension: str = "flac") -> Record:
        """Write the audio of a line and return its record, still without words."""
        path = self.folder / "audio" / f"{line:04d}.{extension}"
        if extension == "flac":
            sf.write(path, samples, rate_hz, subtype="PCM_16", compression_level=1.0)
        else:
            sf.write(path, samples, rate_hz, format="OGG", subtype="OPUS", compression_level=0.9)
        return {"audio_filepath": f"audio/{path.name}", "duration": round(len(samples) / rate_hz, 3)}


def label(record: Record, utterance: Utterance, text: str | None = None) -> Record:
    """Return `record` with a transcript, the utterance's own unless another is given, and the voice."""
    return record | {"text": text or utterance.text, "speaker": utterance.voice}


def plain(corpus: Corpus, line: int) -> Record:
    """16 kHz mono FLAC with the right transcript."""
    utterance = corpus.draw(line)
    return label(corpus.write(line, speak(utterance)), utterance)


def slow(corpus: Corpus, line: int) -> Record:
    """A long string, spoken slowly."""
    utterance = replace(corpus.draw(line, words=18), speed_wpm=125, pause_ms=120, noise_level=0.0003)
    return label(corpus.write(line, speak(utterance)), utterance)


def opus(corpus: Corpus, line: int) -> Record:
    """Ogg Opus at 48 kHz."""
    utterance = corpus.draw(line)
    return label(corpus.write(line, speak(utterance, 48_000), 48_000, "ogg"), utterance)


def telephone(corpus: Corpus, line: int) -> Record:
    """8 kHz mono FLAC."""
    utterance = corpus.draw(line)
    return label(corpus.write(line, speak(utterance, TELEPHONE_RATE_HZ), TELEPHONE_RATE_HZ), utterance)


def stereo(corpus: Corpus, line: int) -> Record:
    """44.1 kHz stereo FLAC, the right channel being quieter."""
    utterance = replace(corpus.draw(line, words=3), noise_level=0.0)
    samples = speak(utterance, 44_100)
    return label(corpus.write(line, np.stack([samples, 0.5 * samples], axis=1), 44_100), utterance)


def first_segment(corpus: Corpus, line: int) -> Record:
    """The first of two segments of one recording, which differ in `offset` and `duration`."""
    return _segments(corpus, line)[0]


def second_segment(corpus: Corpus, line: int) -> Record:
    """The second segment of the recording on the line before."""
    return _segments(corpus, line - 1)[1]


def _segments(corpus: Corpus, line: int) -> tuple[Record, Record]:
    utterances = [replace(corpus.draw(line, words=6, take=take), noise_level=0.0005) for take in range(2)]
    first, second = (speak(utterance) for utterance in utterances)
    silence = white_noise(int(SILENCE_S * RATE_HZ), 0.0005, seed=line)
    record = corpus.write(line, np.concatenate([first, silence, second]))
    spans = [(0, len(first)), (len(first) + len(silence), len(second))]
    return tuple(
        label(record | {"offset": round(start / RATE_HZ, 3), "duration": round(length / RATE_HZ, 3)}, utterance)
        for (start, length), utterance in zip(spans, utterances, strict=True)
    )


def wrong_transcript(corpus: Corpus, line: int) -> Record:
    """The transcript of another recording."""
    utterance = corpus.draw(line, words=5)
    return label(corpus.write(line, speak(utterance)), utterance, text=corpus.draw(line, words=5, take=1).text)


def half_transcript(corpus: Corpus, line: int) -> Record:
    """A transcript that stops in the middle."""
    utterance = corpus.draw(line, words=8)
    return label(corpus.write(line, speak(utterance)), utterance, text=" ".join(utterance.text.split()[:4]))


def too_short(corpus: Corpus, line: int) -> Record:
    """A clip of 0.3 s that holds a piece of a word."""
    utterance = corpus.draw(line, words=2)
    return label(corpus.write(line, speak(utterance)[: int(0.3 * RATE_HZ)]), utterance, text=utterance.text.split()[0])


def silent(corpus: Corpus, line: int) -> Record:
    """A silent clip with a transcript."""
    return label(corpus.write(line, np.zeros(2 * RATE_HZ)), corpus.draw(line, words=4))


def drowned(corpus: Corpus, line: int) -> Record:
    """Speech under noise that is louder."""
    utterance = replace(corpus.draw(line, words=4), gain=0.1, noise_level=0.1)
    return label(corpus.write(line, speak(utterance)), utterance)


def truncated(corpus: Corpus, line: int) -> Record:
    """A FLAC file cut in the middle."""
    record = plain(corpus, line)
    path = corpus.folder / record["audio_filepath"]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return record


def missing(corpus: Corpus, line: int) -> Record:
    """A file that does not exist."""
    record = plain(corpus, line)
    (corpus.folder / record["audio_filepath"]).unlink()
    return record


def web_page(corpus: Corpus, line: int) -> Record:
    """A web page named .wav, as failed downloads are."""
    record = plain(corpus, line)
    sound = corpus.folder / record["audio_filepath"]
    record["audio_filepath"] = str(Path(record["audio_filepath"]).with_suffix(".wav"))
    sound.unlink()
    page = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
    (corpus.folder / record["audio_filepath"]).write_text(page, encoding="utf-8")
    return record


def empty(corpus: Corpus, line: int) -> Record:
    """A file of no bytes."""
    record = plain(corpus, line)
    (corpus.folder / record["audio_filepath"]).write_bytes(b"")
    return record


def broken_line(corpus: Corpus, line: int) -> Record:
    """A line of the manifest that is not JSON; its audio is sound."""
    return plain(corpus, line)


GOOD: dict[int, Callable[[Corpus, int], Record]] = {
    6: opus,
    12: telephone,
    18: stereo,
    23: first_segment,
    24: second_segment,
    31: opus,
    35: slow,
    40: telephone,
    45: stereo,
    52: opus,
}
FILTERED: dict[int, Callable[[Corpus, int], Record]] = {
    4: wrong_transcript,
    15: too_short,
    21: half_transcript,
    29: wrong_transcript,
    34: silent,
    43: drowned,
    50: wrong_transcript,
}
QUARANTINED: dict[int, Callable[[Corpus, int], Record]] = {
    9: truncated,
    20: missing,
    27: broken_line,
    37: web_page,
    48: empty,
}


def make_corpus(folder: Path, seed: int) -> None:
    """Write `manifest.jsonl`, `audio/` and `expected.json` anew under `folder`."""
    shutil.rmtree(folder / "audio", ignore_errors=True)
    (folder / "audio").mkdir(parents=True)
    corpus = Corpus(folder, seed)
    makers = GOOD | FILTERED | QUARANTINED
    lines = [json.dumps(makers.get(line, plain)(corpus, line)) for line in range(1, RECORDS + 1)]
    for line, maker in QUARANTINED.items():
        if maker is broken_line:
            lines[line - 1] = lines[line - 1][:-30]
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "expected.json").write_text(json.dumps(describe_expected(), indent=2) + "\n", encoding="utf-8")


def describe_expected() -> dict[str, dict[str, str]]:
    """Return a description of each faulty record, by outcome and line of the manifest counted from 1."""
    fates = {"filtered": FILTERED, "quarantined": QUARANTINED}
    return {
        fate: {str(line): str(maker.__doc__).rstrip(".") for line, maker in makers.items()}
        for fate, makers in fates.items()
    }


def main() -> None:
    """Make the corpus and print its size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=QUICKSTART / "data", help="its audio/ is replaced")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_corpus(arguments.out, arguments.seed)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{RECORDS} lines, {size} bytes in {arguments.out}")


if __name__ == "__main__":
    main()
