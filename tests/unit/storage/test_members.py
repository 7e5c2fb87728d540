"""Recordings inside containers: where they lie, what is broken, and what a hostile container cannot do."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import soundfile
from pyarrow import parquet

from curate.audio import load
from curate.errors import InfrastructureError, RecordError
from curate.storage import TornArchiveError, open_file, tar_members


def wav(number: int) -> bytes:
    file = io.BytesIO()
    samples = np.random.default_rng(number).integers(-999, 999, 1600).astype(np.int16)
    soundfile.write(file, samples, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def write_tar(path: Path, names: dict[str, bytes], **settings: Any) -> Path:
    with tarfile.open(path, "w", **settings) as tar:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def names_in(path: Path) -> list[str]:
    with open_file(path) as file:
        return [member.name for member in tar_members(file)]


def code_of(path: str, roots: Any = None) -> str:
    with pytest.raises(RecordError) as caught:
        load(path, roots=roots)
    return caught.value.code


NAMES = {"a.wav": wav(1), f"{'deep/' * 40}b.wav": wav(2), "日本.wav": wav(3), f"{'n' * 200}.wav": wav(4)}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_any_tar_format_are_where_tarfile_finds_them(tmp_path: Path, form: int) -> None:
    names = {name: data for name, data in NAMES.items() if form != tarfile.USTAR_FORMAT or len(name) < 100}
    path = write_tar(tmp_path / "x.tar", names, format=form)
    with tarfile.open(path) as tar, open_file(path) as file:
        expected = [(member.name, member.offset_data, member.size) for member in tar]
        assert [(member.name, member.offset, member.size) for member in tar_members(file)] == expected
    for name, content in names.items():
        samples, _ = soundfile.read(io.BytesIO(content), dtype="float32")
        assert np.array_equal(load(f"{path}::{name}"), samples)


def test_member_may_be_named_without_its_suffix_where_that_is_clear(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.wav": wav(1), "a.json": b"{}", "b.wav": wav(2), "b.flac": wav(3)})
    assert len(load(f"{path}::a")) == 1600
    assert code_of(f"{path}::b") == "missing_file"
    assert code_of(f"{path}::c") == "missing_file"


def test_tar_without_its_last_blocks_is_whole(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.wav": wav(1)})
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content + bytes(-len(content) % 512))
    assert names_in(path) == ["a.wav"]


@pytest.mark.parametrize("kept", [300, 512 + 100, 512 + 4096 + 200])
def test_tar_that_was_cut_off_stops_the_run_with_shard_and_byte(tmp_path: Path, kept: int) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.wav": wav(1), "b.wav": wav(2)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TornArchiveError, match=r"x\.tar is not a whole tar: at byte \d+"):
        names_in(path)
    if kept > 512:
        with pytest.raises(InfrastructureError, match=r"x\.tar.* at byte"):
            load(f"{path}::b.wav")


def test_header_that_is_broken_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.wav": wav(1), "b.wav": wav(2), "c.wav": wav(3)})
    content = bytearray(path.read_bytes())
    second = content.index(b"b.wav")
    content[second : second + 5] = b"?????"
    path.write_bytes(content)
    with pytest.raises(TornArchiveError, match=f"at byte {second}, its header is broken"):
        names_in(path)


def test_hostile_names_and_links_lead_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(9))
    folder = tmp_path / "corpus"
    folder.mkdir()
    path = folder / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind, target in (
            ("link.wav", tarfile.SYMTYPE, str(secret)),
            ("hard.wav", tarfile.LNKTYPE, "../secret.wav"),
            ("device.wav", tarfile.CHRTYPE, ""),
            ("folder", tarfile.DIRTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
        member = tarfile.TarInfo("../../secret.wav")
        member.size = len(wav(1))
        tar.addfile(member, io.BytesIO(wav(1)))
    assert names_in(path) == ["../../secret.wav"]
    inside, _ = soundfile.read(io.BytesIO(wav(1)), dtype="float32")
    assert np.array_equal(load(f"{path}::../../secret.wav", roots=[folder]), inside)
    for name in ("link.wav", "hard.wav", "device.wav", "folder", "../secret.wav"):
        assert code_of(f"{path}::{name}", [folder]) == "missing_file"
    assert sorted(tmp_path.iterdir()) == [folder, secret]


def test_container_outside_the_roots_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.wav": wav(1)})
    (tmp_path / "corpus").mkdir()
    assert code_of(f"{path}::a.wav", [tmp_path / "corpus"]) == "outside_root"


def test_file_with_two_colons_in_its_name_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "a::b.wav"
    path.write_bytes(wav(1))
    assert len(load(str(path))) == 1600


@pytest.mark.parametrize("rows_per_group", [3, 100])
def test_value_of_parquet_is_read_by_its_row(tmp_path: Path, rows_per_group: int) -> None:
    values = [wav(number) for number in range(40)]
    audio = pyarrow.array([{"bytes": value, "path": None} for value in values])
    table = pyarrow.table({"audio": audio, "plain": pyarrow.array(values)})
    path = tmp_path / "x.parquet"
    parquet.write_table(table, path, row_group_size=rows_per_group)
    for row in (1, 3, 4, 16, 17, 40):
        samples, _ = soundfile.read(io.BytesIO(values[row - 1]), dtype="float32")
        assert np.array_equal(load(f"{path}::audio/{row}"), samples)
        assert np.array_equal(load(f"{path}::plain/{row}"), samples)
    for member in ("audio/41", "audio/0", "audio/x", "other/1", "audio"):
        assert code_of(f"{path}::{member}") == "missing_file"


def test_value_of_torn_parquet_stops_the_run_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"audio": pyarrow.array([wav(1)])}), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InfrastructureError, match=r"x\.parquet is broken"):
        load(f"{path}::audio/1")


def test_member_of_something_else_is_not_audio(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\x03\x04" + bytes(600))
    assert code_of(f"{path}::a.wav") == "not_audio"
