"""Inputs of the pipelines for whole jobs: small corpora of real clips, in the forms in which people have speech.

Nothing is checked in: the clips are those of `real_speech`, whose texts are known.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from tests.unit.align import spoken_digits
from tests.unit.audio.audio_files import packed
from tests.unit.signal.real_speech import FOLDER, clips, resampled, white_noise, with_noise

RATE_HZ = 16_000
LEVEL = 0.05

Samples = np.ndarray


@cache
def texts() -> dict[str, str]:
    """Return the text of each clip by the stem of its file's name."""
    lines = [line for manifest in sorted(FOLDER.glob("*/manifest.jsonl")) for line in manifest.read_text().splitlines()]
    return {Path(row["audio_filepath"]).stem: row["text"] for row in map(json.loads, lines)}


def clip(name: str, rate_hz: int = RATE_HZ) -> Samples:
    """Return a clip whose name ends so, equally loud as the others."""
    [samples] = [samples for stem, (samples, _) in clips(RATE_HZ).items() if stem.endswith(name)]
    level = samples / np.sqrt(np.mean(samples**2)) * LEVEL
    return level if rate_hz == RATE_HZ else resampled(level, RATE_HZ, rate_hz)


def text(name: str) -> str:
    """Return the text of the clip whose name ends so."""
    [found] = [value for stem, value in texts().items() if stem.endswith(name)]
    return found


def pause(seconds: float, rate_hz: int = RATE_HZ) -> Samples:
    return np.zeros(round(seconds * rate_hz), np.float32)


def jingle(seconds: float) -> Samples:
    """Return a chord with a beat, which no voice detector should take for speech."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    chord = sum(np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6, 440.0))
    return (0.03 * chord * (0.6 + 0.4 * np.sin(2 * np.pi * 2 * t))).astype(np.float32)


def recording(parts: Sequence[Samples], *, pause_s: float = 1.2, noise_dbfs: float = -65, seed: int = 0) -> Samples:
    """Return the parts with pauses before, between and behind, and quiet noise over all of it."""
    joined = [pause(pause_s)]
    for part in parts:
        joined += [part, pause(pause_s)]
    samples = np.concatenate(joined)
    return (samples + 10 ** (noise_dbfs / 20) * white_noise(len(samples), seed=seed)).astype(np.float32)


# Common Voice.

READ_BY = {
    "anna": ("0880", "goforward"),
    "ben": ("0930", "cards_005"),
    "cleo": ("jfk",),
    "dan": ("0870",),
}
"""Speaker → the clips of the read-speech corpus that are good."""

BAD_CLIPS = ("other_text", "noisy", "again", "missing")


def write_common_voice(folder: Path) -> None:
    """Write a corpus in the layout of Common Voice: the good clips, and one of each of `BAD_CLIPS`."""
    (folder / "clips").mkdir(parents=True)
    rows: list[tuple[str, str, str]] = []

    def add(name: str, speaker: str, spoken: str, sentence: str, snr_db: float | None = None) -> None:
        if spoken:
            samples = recording([clip(spoken)], pause_s=0.3)
            if snr_db is not None:
                samples = with_noise(samples, white_noise(len(samples)), snr_db)
            soundfile.write(folder / "clips" / f"{name}.mp3", samples, RATE_HZ, format="MP3")
        rows.append((speaker, f"{name}.mp3", sentence))

    for speaker, names in READ_BY.items():
        for name in names:
            add(name, speaker, name, text(name))
    add("other_text", "anna", "cards_003", text("0920"))
    add("noisy", "ben", "cards_002", text("cards_002"), snr_db=-5)
    add("missing", "dan", "", "this recording was never uploaded")
    shutil.copy(folder / "clips" / "0880.mp3", folder / "clips" / "again.mp3")
    rows.append(("anna", "again.mp3", text("0880")))
    lines = ["client_id\tpath\tsentence\tup_votes\tdown_votes\tlocale"]
    lines += [f"{speaker}\t{path}\t{sentence}\t2\t0\ten" for speaker, path, sentence in rows]
    (folder / "validated.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


# Podcasts.

ADVERTISEMENT = "0930"
EPISODES = {"first.m4a": ("0880", "goforward"), "second.mp3": ("cards_005", "jfk")}
"""File → the clips of an episode, in addition to the advertisement that is in both."""


def write_podcasts(folder: Path) -> None:
    """Write two episodes with a jingle and the same advertisement, and a file that is not audio."""
    folder.mkdir()
    for seed, (name, parts) in enumerate(EPISODES.items()):
        samples = recording([jingle(4), *map(clip, parts), clip(ADVERTISEMENT)], seed=seed)
        if name.endswith(".m4a"):
            (folder / name).write_bytes(packed(samples, "ipod", "aac", RATE_HZ))
        else:
            soundfile.write(folder / name, samples, RATE_HZ, format="MP3")
    (folder / "third.mp3").write_text("<html><body>404 Not Found</body></html>")


# Telephone.

TELEPHONE_HZ = 8_000
CALLS = {"morning": (("0880", "0930"), ("goforward", "cards_005")), "evening": (("jfk",), ("0870",))}
"""Call → the clips on its left and on its right channel, which alternate."""


def write_calls(folder: Path) -> None:
    """Write calls in stereo, with crosstalk of -30 dB, and one in mono that was saved as stereo."""
    folder.mkdir()
    for name, sides in CALLS.items():
        left, right = [pause(1, TELEPHONE_HZ)], [pause(1, TELEPHONE_HZ)]
        for mine, yours in zip(*sides, strict=True):
            for spoken, own, other in ((mine, left, right), (yours, right, left)):
                samples = clip(spoken, TELEPHONE_HZ)
                own += [samples, pause(1, TELEPHONE_HZ)]
                other += [0.03 * samples, pause(1, TELEPHONE_HZ)]
        both = np.stack([np.concatenate(left), np.concatenate(right)], axis=1)
        noise = [1e-4 * white_noise(len(both), seed=seed) for seed in (1, 2)]
        soundfile.write(folder / f"{name}.wav", both + np.stack(noise, axis=1), TELEPHONE_HZ, subtype="ULAW")
    mono = recording([clip("cards_005")], pause_s=1)
    mono = resampled(mono, RATE_HZ, TELEPHONE_HZ)
    soundfile.write(folder / "answering-machine.wav", np.stack([mono, mono], axis=1), TELEPHONE_HZ)


# Audiobooks: of spoken digits, because the models that are here read nothing else by CTC.

READERS = ("smith", "jones")


@dataclass(frozen=True)
class Chapter:
    """The sentences of a chapter that were read, the one that its text lacks, and the one that was not read."""

    read: list[str]
    only_spoken: str
    only_written: str


def write_books(folder: Path) -> dict[str, Chapter]:
    """Write two books of one chapter each, `speaker/book/01.flac` and `.txt`; return their chapters."""
    chapters: dict[str, Chapter] = {}
    for number, (speaker, book) in enumerate(zip(READERS, ("emma", "persuasion"), strict=True)):
        seeds = range(10 * number, 10 * number + 8)
        spoken = [spoken_digits.speak(spoken_digits.draw(seed), seed=number) for seed in seeds]
        sentences = [f"{one.text}." for one in spoken]
        samples = spoken_digits.join([*spoken[:5], *spoken[6:]]).samples
        place = folder / speaker / book
        place.mkdir(parents=True)
        soundfile.write(place / "01.flac", samples, RATE_HZ)
        (place / "01.txt").write_text("\n".join(sentences[1:]) + "\n")
        chapters[book] = Chapter([*sentences[1:5], *sentences[6:]], spoken[0].text, sentences[5])
    return chapters
