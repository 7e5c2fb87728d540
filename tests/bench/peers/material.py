"""The material of the comparison: clips of digits, some with the transcript of another, and five broken files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

QUICKSTART = Path(__file__).resolve().parents[3] / "pipelines" / "quickstart"
RATE_HZ = 16_000
WRONG_EVERY = 10
"""Every tenth clip has the transcript of another one, and so should be filtered."""


@dataclass(frozen=True)
class Material:
    """A manifest with absolute paths, the ids of its records, and the ids that a run should publish."""

    manifest: Path
    clips: Path
    ids: frozenset[str]
    good: frozenset[str]
    broken: frozenset[str]
    audio_s: float

    def parts(self, count: int) -> Path:
        """Return the folder with the manifest in parts, for programs whose unit of work is an input file."""
        folder = self.manifest.with_name(f"{self.manifest.stem}-parts")
        if not folder.exists():
            folder.mkdir()
            lines = self.manifest.read_text().splitlines(keepends=True)
            size = -(-len(lines) // count)
            for number in range(count):
                part = folder / f"{number:03}.jsonl"
                part.write_text("".join(lines[number * size : (number + 1) * size]))
        return folder


def make_material(folder: Path, count: int, *, with_broken: bool = False) -> Material:
    """Make clips that the quickstart's model transcribes well, from those of the quickstart at other levels.

    Args:
        folder: a new folder.
        count: the number of sound clips.
        with_broken: add an empty file, a FLAC file cut in the middle, a web page named .wav, a file that does not
            exist, and a WAV file of no samples, evenly spread over the manifest.
    """
    unfit = json.loads((QUICKSTART / "data" / "expected.json").read_text())
    unfit = {int(line) for lines in unfit.values() for line in lines}
    lines = (QUICKSTART / "data" / "manifest.jsonl").read_text().splitlines()
    sources = [json.loads(line) for number, line in enumerate(lines, start=1) if number not in unfit]
    sources = [each for each in sources if "offset" not in each]  # whole files only
    audio = [QUICKSTART / "data" / each["audio_filepath"] for each in sources]
    described = [soundfile.info(path) for path in audio]
    plain = [each.samplerate == RATE_HZ and each.channels == 1 for each in described]  # the others need conversion
    sources = [each for each, fits in zip(sources, plain, strict=True) if fits]
    samples = [soundfile.read(path, dtype="float32")[0] for path, fits in zip(audio, plain, strict=True) if fits]
    clips = folder / "clips"
    clips.mkdir(parents=True)
    generator = np.random.default_rng(21)
    records: list[dict[str, object]] = []
    good: set[str] = set()
    for number in range(count):
        which = number % len(sources)
        name = f"clip-{number:05}"
        made = samples[which] * generator.uniform(0.3, 1.0)
        made += generator.normal(0, 1e-4, len(made)).astype(np.float32)  # each clip has bytes of its own
        soundfile.write(clips / f"{name}.flac", made, RATE_HZ)
        wrong = number % WRONG_EVERY == 0
        if not wrong:
            good.add(name)
        text = sources[(which + 7) % len(sources) if wrong else which]["text"]
        path = str(clips / f"{name}.flac")
        records.append({"id": name, "audio_filepath": path, "duration": len(made) / RATE_HZ, "text": text})
    broken = _add_broken(clips, records) if with_broken else set[str]()
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(record) + "\n" for record in records))
    ids = frozenset(str(record["id"]) for record in records)
    audio_s = sum(float(str(record["duration"])) for record in records)
    return Material(manifest, clips, ids, frozenset(good), frozenset(broken), audio_s)


def _add_broken(clips: Path, records: list[dict[str, object]]) -> set[str]:
    whole = (clips / "clip-00001.flac").read_bytes()
    contents = {
        "empty.flac": b"",
        "cut.flac": whole[: len(whole) // 2],
        "page.wav": b"<!DOCTYPE html><html><head><title>404</title></head><body>Not Found</body></html>\n",
        "missing.flac": None,
        "no-samples.wav": None,
    }
    step = len(records) // len(contents)
    for number, (name, content) in enumerate(contents.items()):
        path = clips / name
        if content is not None:
            path.write_bytes(content)
        claim = records[1] if name == "cut.flac" else records[number + 2]
        record = {**claim, "id": name.partition(".")[0], "audio_filepath": str(path)}
        records.insert((number + 1) * step - 1, record)
    soundfile.write(clips / "no-samples.wav", np.zeros(0, np.float32), RATE_HZ)
    return {name.partition(".")[0] for name in contents}
