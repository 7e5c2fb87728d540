"""Recognises the form in which a folder or a file holds speech, and names the stage that reads it."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import click

from curate.errors import CurateError, RecordError, UsageError
from curate.io import audio_columns, declared_columns, judge_content, parquet_schema, read_rows
from curate.plural import counted
from curate.records import Record
from curate.storage import RemotePath, is_url, names_below, path_of

_AUDIO = frozenset(
    (
        *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".au", ".sph", ".w64"),
        *(".caf", ".wma", ".webm", ".amr"),
    )
)
_SEGMENTS = frozenset((".srt", ".vtt", ".textgrid", ".ctm", ".stm", ".rttm"))
_MANIFESTS = (".jsonl", ".json", ".tsv", ".csv", ".parquet", ".jsonl.gz", ".json.gz", ".jsonl.zst")
_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")
_PATHS = ("audio_filepath", "path", "audio", "file_name", "filename", "file", "wav", "audio_path", "wav_filename")
_TEXTS = ("text", "sentence", "transcription", "transcript", "normalized_text")
_SPEAKERS = ("speaker", "client_id", "speaker_id", "spk")
_MAX_FILES = 20_000
"""How many files of a folder are looked at."""
_MAX_MANIFESTS = 20
"""How many manifests below a URL are opened."""


@attrs.frozen
class CorpusForm:
    """The form that a folder or a file has.

    Args:
        described: what it is, for people.
        reader: the stage that reads it, as a pipeline file names it.
        settings: the settings of that stage.
    """

    described: str
    reader: str
    settings: Mapping[str, Any]


def corpus_path(context: click.Context, parameter: click.Parameter, value: str) -> Path:
    """Return the argument of a verb as a path, or as the path of a URL."""
    try:
        return path_of(value.rstrip("/") if is_url(value) else value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


def recognise_form(path: Path) -> CorpusForm:
    """Return the form of a corpus.

    Raises:
        UsageError: there is nothing, or nothing that a stage reads.
    """
    try:
        is_there = path.exists()
    except OSError as error:
        if error.errno != errno.EINVAL or not isinstance(path, RemotePath):  # that is of a bucket as a whole
            raise UsageError(f"{path} cannot be read: {error}") from error
        is_there = False
    except LookupError as error:
        raise UsageError(str(error)) from error
    if not is_there and isinstance(path, RemotePath):
        return _form_below(path)
    if not is_there:
        raise UsageError(f"{path} does not exist (looked from {Path.cwd()})")
    found = _form_of_folder(path.absolute()) if path.is_dir() else _form_of_file(path.absolute())
    if found is None:
        raise UsageError(f"{path} {_what_else(path.absolute())}")
    return found


def _what_else(path: Path) -> str:
    """Return a clause about a path that holds nothing that a stage reads, with the remedy."""
    files = list(islice(_files_below(path), _MAX_FILES)) if path.is_dir() else [path]
    if not files:
        return "is an empty folder"
    packed = next((file for file in files if file.name.lower().endswith(_ARCHIVES)), None)
    if packed is not None:
        what = "is an archive" if packed == path else f"holds the archive {packed.relative_to(path)}"
        return f"{what}, whose members no stage reads: unpack it into a folder, and name the folder"
    found = "" if path.is_file() else f" (it has {counted(len(files), 'file')}, such as {files[0].relative_to(path)})"
    return f"holds neither recordings nor a manifest of them that a stage reads{found}: see curate stages"


def _form_of_folder(folder: Path) -> CorpusForm | None:
    for recognise in (_dataset, _common_voice, _kaldi, _read_speech, _lhotse, _nemo_tarred, _hf_folder, _web_dataset):
        found = recognise(folder)
        if found is not None:
            return found
    files = list(islice(_files_below(folder), _MAX_FILES))
    recordings = [file for file in files if file.suffix.lower() in _AUDIO]
    segments = sorted({file.suffix.lower() for file in files} & _SEGMENTS)
    if segments and recordings:
        return CorpusForm(f"recordings with {', '.join(segments)} files", "read_segments", {"folder": str(folder)})
    manifests = [file for file in sorted(folder.iterdir()) if file.name.lower().endswith(_MANIFESTS)]
    forms = [form for form in map(_form_of_manifest, manifests) if form is not None]
    if len(forms) == 1 or (forms and not recordings):
        return forms[0]
    return _plain_folder(folder, files, recordings) if recordings else None


def _form_below(folder: RemotePath) -> CorpusForm:
    """Return the form of what lies below a URL, by the names of the objects; of manifests, by their first rows.

    Raises:
        UsageError: there is nothing, or nothing that a stage reads there.
    """
    try:
        names = [name for name in islice(names_below(str(folder)), _MAX_FILES) if not f"/{name}".count("/.")]
    except LookupError as error:
        raise UsageError(f"{folder} does not exist; what lies below it is not known: {error}") from error
    except OSError as error:
        raise UsageError(f"{folder} does not exist, and cannot be listed: {error}") from error
    if not names:
        raise UsageError(f"{folder} does not exist, and no object lies below it")
    files: list[Path] = [RemotePath(f"{folder}/{name}") for name in names]
    recordings = [file for file in files if file.suffix.lower() in _AUDIO]
    local = _form_read_locally(names, has_recordings=bool(recordings))
    if local is not None:
        raise UsageError(f"{folder} is {local[0]}, which {local[1]} reads from a local folder: copy it into one")
    top = sorted(name for name in names if "/" not in name)
    if "tarred_audio_manifest.json" in top:
        settings = {"manifest": f"{folder}/tarred_audio_manifest.json"}
        return CorpusForm("a NeMo tarred data set", "read_nemo_tarred", settings)
    if any(name.endswith(".tar") for name in top):
        return CorpusForm("WebDataset tars", "read_webdataset", {"shards": f"{folder}/*.tar"})
    stems = {file.with_suffix("") for file in recordings}
    manifests = [RemotePath(f"{folder}/{name}") for name in top if name.lower().endswith(_MANIFESTS)]
    manifests = [file for file in manifests if file.with_suffix("") not in stems][:_MAX_MANIFESTS]
    forms = [form for form in map(_form_of_manifest, manifests) if form is not None]
    if len(forms) == 1 or (forms and not recordings):
        return forms[0]
    if not recordings:
        found = f"it has {counted(len(names), 'object')}, such as {names[0]}"
        raise UsageError(f"{folder} holds neither recordings nor a manifest of them ({found}): see curate stages")
    return _plain_folder(folder, files, recordings)


def _form_read_locally(names: Sequence[str], *, has_recordings: bool) -> tuple[str, str] | None:
    """Return a form that is read from local folders only, and its reader; None: the names are of no such form."""
    if "wav.scp" in names:
        return "a Kaldi data folder", "read_kaldi"
    if any(name.endswith(".trans.txt") for name in names):
        return "LibriSpeech, or a corpus in its form", "read_librispeech"
    if "metadata.csv" in names and any(name.startswith("wavs/") for name in names):
        return "LJSpeech, or a corpus in its form", "read_ljspeech"
    if any(name.endswith(".tsv") for name in names) and any(name.startswith("clips/") for name in names):
        return "Common Voice, or a corpus in its form", "read_common_voice"
    segments = sorted({Path(name).suffix.lower() for name in names} & _SEGMENTS)
    return (f"recordings with {', '.join(segments)} files", "read_segments") if segments and has_recordings else None


def _form_of_file(path: Path) -> CorpusForm | None:
    if path.name.endswith(".tsv") and (path.parent / "clips").is_dir():
        return _common_voice(path.parent, path.stem)
    if path.suffix.lower() in _SEGMENTS:
        return CorpusForm(f"recordings with {path.suffix} files", "read_segments", {"folder": str(path.parent)})
    if path.suffix == ".tar":
        return _nemo_tarred(path.parent) or CorpusForm("a WebDataset tar", "read_webdataset", {"shards": str(path)})
    if path.suffix == ".arrow":
        return CorpusForm("a Hugging Face data set in Arrow", "read_hf", {"path": str(path)})
    if path.suffix.lower() in _AUDIO:
        folder = path.parent
        found = _form_below(folder) if isinstance(folder, RemotePath) else _form_of_folder(folder)
        return found and attrs.evolve(found, described=f"a recording; its folder, {folder}, is {found.described}")
    return _form_of_manifest(path)


def _dataset(folder: Path) -> CorpusForm | None:
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return CorpusForm("a Hugging Face data set, as save_to_disk writes it", "read_hf", {"path": str(folder)})
    return None


def _common_voice(folder: Path, split: str = "") -> CorpusForm | None:
    splits = [path.stem for path in folder.glob("*.tsv") if _columns_of(path) >= {"path", "sentence", "client_id"}]
    if not (folder / "clips").is_dir() or not splits:
        return None
    chosen = split or next((name for name in ("validated", "train") if name in splits), sorted(splits)[0])
    described = f"Common Voice ({folder.name}), clips of {chosen}.tsv, speakers in client_id"
    return CorpusForm(described, "read_common_voice", {"folder": str(folder), "split": chosen})


def _kaldi(folder: Path) -> CorpusForm | None:
    if not (folder / "wav.scp").is_file():
        return None
    known = [name for name in ("segments", "text", "utt2spk", "spk2gender") if (folder / name).is_file()]
    return CorpusForm(f"a Kaldi data folder (wav.scp, {', '.join(known)})", "read_kaldi", {"folder": str(folder)})


def _read_speech(folder: Path) -> CorpusForm | None:
    if next(folder.glob("**/*.trans.txt"), None) is not None:
        return CorpusForm("LibriSpeech, speakers in the names of folders", "read_librispeech", {"folder": str(folder)})
    metadata = folder / "metadata.csv"
    if (folder / "wavs").is_dir() and metadata.is_file() and "|" in _first_line(metadata):
        return CorpusForm("LJSpeech, or a corpus in its form", "read_ljspeech", {"folder": str(folder)})
    return None


def _lhotse(folder: Path) -> CorpusForm | None:
    cuts = sorted(folder.glob("cuts.*.jsonl*")) or sorted(folder.glob("*cuts*.jsonl*"))
    if not cuts:
        return None
    is_shar = any(folder.glob("recording.*.tar"))
    return CorpusForm("a Lhotse Shar" if is_shar else "Lhotse cuts", "read_lhotse", {"path": str(folder)})


def _nemo_tarred(folder: Path) -> CorpusForm | None:
    if not any(folder.glob("audio_*.tar")):
        return None
    manifests = sorted(folder.glob("tarred_audio_manifest.json")) or sorted(folder.glob("*manifest*.json*"))
    if not manifests:
        return None
    return CorpusForm("a NeMo tarred data set", "read_nemo_tarred", {"manifest": str(manifests[0])})


def _hf_folder(folder: Path) -> CorpusForm | None:
    for name in ("metadata.csv", "metadata.jsonl"):
        path = next(folder.glob(f"**/{name}"), None)
        if path is not None and "file_name" in _columns_of(path):
            return CorpusForm(f"a Hugging Face AudioFolder with {name}", "read_hf", {"path": str(folder)})
    table = next(folder.glob("**/*.parquet"), None)
    if table is not None and _has_recordings(table):
        return CorpusForm("a Hugging Face data set in Parquet, recordings inside", "read_hf", {"path": str(folder)})
    return None


def _web_dataset(folder: Path) -> CorpusForm | None:
    if next(folder.glob("*.tar"), None) is None:
        return None
    return CorpusForm("WebDataset tars", "read_webdataset", {"shards": f"{folder}/*.tar"})


def _plain_folder(folder: Path, files: list[Path], recordings: list[Path]) -> CorpusForm:
    stems = {file.with_suffix("") for file in recordings}
    sidecars = sorted(
        {file.suffix for file in files if file.suffix in (".txt", ".lab") and file.with_suffix("") in stems}
    )
    more = " or more" if len(files) == _MAX_FILES else ""
    transcripts = f", transcripts in {', '.join(sidecars)} files" if sidecars else ", without transcripts"
    described = f"a folder of recordings: {len(recordings):,}{more}{transcripts}"
    return CorpusForm(described, "read_folder", {"folder": str(folder)})


def _form_of_manifest(path: Path) -> CorpusForm | None:
    """Return the form of a file of rows; None: it has none that name recordings."""
    try:
        content = judge_content(path)
        if content.form == "parquet" and _has_recordings(path):
            described = "a Hugging Face data set in Parquet, recordings inside"
            return CorpusForm(described, "read_hf", {"path": str(path)})
        row = _first_row(path)
    except (CurateError, OSError, EOFError):
        return None
    if row.get("type") in ("MonoCut", "MultiCut", "MixedCut"):
        return CorpusForm("Lhotse cuts", "read_lhotse", {"path": str(path)})
    if "shard_id" in row and any(path.parent.glob("audio_*.tar")):
        return _nemo_tarred(path.parent)
    audio = next((name for name in _PATHS if isinstance(row.get(name), str)), None)
    if audio is None:
        return None
    settings: dict[str, Any] = {"manifest": str(path)}
    names = {"audio_filepath": audio, "text": _first_of(row, _TEXTS), "speaker": _first_of(row, _SPEAKERS)}
    renamed = {new: old for new, old in names.items() if old is not None and old != new}
    if renamed:
        settings["columns"] = renamed
    form = {"json lines": "JSON Lines", "json array": "a JSON array", "table": "a table", "parquet": "Parquet"}
    packed = f", {content.compression}" if content.compression else ""
    return CorpusForm(f"a manifest ({form.get(content.form, content.form)}{packed})", "read_manifest", settings)


def _first_of(row: Record, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in row), None)


def _first_row(path: Path) -> Record:
    """Return the first record of a file, empty if it has none."""
    rows = (row for _, row in islice(read_rows(path), 20))
    found = next((row for row in rows if not isinstance(row, RecordError)), None)
    return {} if found is None else found


def _columns_of(path: Path) -> set[str]:
    try:
        return set(declared_columns(path) or _first_row(path).keys())
    except CurateError:
        return set()


def _has_recordings(path: Path) -> bool:
    return bool(audio_columns(parquet_schema(path)))


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline(10_000)


def _files_below(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _files_below(entry)
        elif entry.is_file():
            yield entry
