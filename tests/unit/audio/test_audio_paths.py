"""Which paths are read, and how the others are refused."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import numpy as np
import pytest
from audio_files import encoded, tone

from curate.audio import load, load_record, probe
from curate.audio.files import classify_os_error, open_file
from curate.errors import InfrastructureError, RecordError


def code_of(path: object, roots: object = None) -> str:
    with pytest.raises(RecordError) as caught:
        probe(path, roots=roots)  # type: ignore[arg-type]
    with pytest.raises(RecordError) as again:
        load(path, roots=roots)  # type: ignore[arg-type]
    assert caught.value.code == again.value.code
    str(caught.value).encode("utf-8")  # a message can be logged whatever the path holds
    return caught.value.code


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "corpus" / "a.wav"
    path.parent.mkdir()
    path.write_bytes(encoded(tone()))
    return path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a\0.wav",
        "ftp://example.org/a.wav",
        "file:///a.wav",
        b"a.wav",
        7,
        None,
        ["a.wav"],
        "\ud800.wav",
        "x" * 5000,
    ],
)
def test_a_path_that_is_no_usable_string_is_a_bad_path(path: object) -> None:
    assert code_of(path) == "bad_path"


def test_a_path_object_is_as_good_as_a_string(wav: Path) -> None:
    assert probe(wav) == probe(str(wav))


def test_a_file_that_is_not_there_is_missing(wav: Path) -> None:
    assert code_of(str(wav.parent / "b.wav")) == "missing_file"
    assert code_of(str(wav / "below-a-file.wav")) == "missing_file"
    assert code_of(str(wav.parent / "b.wav"), roots=[wav.parent]) == "missing_file"


def test_a_dangling_link_is_missing_and_a_circular_one_unreadable(wav: Path) -> None:
    (wav.parent / "dangling.wav").symlink_to("nowhere")
    (wav.parent / "circle.wav").symlink_to("circle.wav")
    assert code_of(str(wav.parent / "dangling.wav")) == "missing_file"
    assert code_of(str(wav.parent / "circle.wav")) == "unreadable_file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(wav: Path) -> None:
    wav.chmod(0)
    assert code_of(str(wav)) == "unreadable_file"


def test_a_refused_permission_is_unreadable_also_for_root(wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert code_of(str(wav)) == "unreadable_file"


def test_what_is_not_a_regular_file_is_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.wav")
    assert code_of(str(tmp_path)) == "not_a_regular_file"
    assert code_of(str(tmp_path / "fifo.wav")) == "not_a_regular_file"
    assert code_of("/dev/zero") == "not_a_regular_file"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.wav"))
        assert code_of(str(tmp_path / "socket.wav")) == "not_a_regular_file"


def test_a_fifo_that_takes_the_place_of_a_file_after_the_look_does_not_hang(
    wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = wav.stat()
    fifo = wav.parent / "fifo.wav"
    os.mkfifo(fifo)
    monkeypatch.setattr(Path, "stat", lambda self, **_: seen)
    assert code_of(str(fifo)) == "not_a_regular_file"


def test_a_file_without_bytes_is_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    assert code_of(str(tmp_path / "empty.wav")) == "empty_file"


def test_only_files_below_the_roots_are_read(wav: Path, tmp_path: Path) -> None:
    other = tmp_path / "corpus-two"
    other.mkdir()
    assert probe(wav, roots=[other, wav.parent]).frames == 16_000
    assert probe(wav, roots=[str(tmp_path)]).frames == 16_000
    assert code_of(str(wav), roots=[other]) == "outside_root"
    assert code_of(str(wav), roots=[]) == "outside_root"
    assert code_of(str(other / ".." / "corpus" / "a.wav"), roots=[other]) == "outside_root"
    assert code_of(str(other / ".." / "corpus" / "missing.wav"), roots=[other]) == "outside_root"
    # A root is a folder, not a prefix of a name.
    (other / "a.wav").write_bytes(wav.read_bytes())
    assert code_of(str(other / "a.wav"), roots=[wav.parent]) == "outside_root"


def test_a_link_out_of_the_roots_is_outside_and_a_link_within_is_fine(wav: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out.wav").symlink_to(wav)
    (root / "folder").symlink_to(wav.parent)
    assert code_of(str(root / "out.wav"), roots=[root]) == "outside_root"
    assert code_of(str(root / "folder" / "a.wav"), roots=[root]) == "outside_root"
    (wav.parent / "b.wav").symlink_to("a.wav")
    assert probe(wav.parent / "b.wav", roots=[wav.parent]).frames == 16_000
    (tmp_path / "linked-root").symlink_to(wav.parent)
    assert probe(tmp_path / "linked-root" / "a.wav", roots=[tmp_path / "linked-root"]).frames == 16_000


@pytest.mark.parametrize("state", ["vanished", "empty", "dangling link"])
def test_a_vanished_root_stops_the_run_instead_of_blaming_the_records(tmp_path: Path, state: str) -> None:
    root = tmp_path / "disk"
    if state == "empty":
        root.mkdir()
    elif state == "dangling link":
        root.symlink_to(tmp_path / "unmounted")
    with pytest.raises(InfrastructureError, match="mounted"):
        load(root / "a.wav", roots=[root])


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ESTALE, errno.ENOMEM])
def test_trouble_of_the_machine_is_not_the_record_s(wav: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(InfrastructureError):
        load(wav)
    assert isinstance(classify_os_error(OSError(number, "x"), "a.wav"), InfrastructureError)


def test_a_disk_that_fails_while_decoding_is_not_taken_for_a_damaged_file(
    wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wav.write_bytes(b"RIFF" + bytes(100))  # the decoder complains
    calls = 0

    def fail_later(fd: int, length: int, offset: int) -> bytes:
        nonlocal calls
        calls += 1
        if length > 100_000:  # the reading through, not the looks at the header
            raise OSError(errno.EIO, "Input/output error")
        return b"RIFF" + bytes(60)

    monkeypatch.setattr(os, "pread", fail_later)
    with pytest.raises(InfrastructureError, match="Input/output"):
        load(wav)
    assert calls


def test_a_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9\xff.wav"
    with open(name, "wb") as out:  # noqa: PTH123 - bytes
        out.write(encoded(tone()))
    path = os.fsdecode(name)
    assert probe(path, roots=[tmp_path]).frames == 16_000
    assert load_record({"audio_filepath": path}).shape == (16_000,)
    assert code_of(path + "x") == "missing_file"


def test_no_descriptor_stays_open(wav: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF" + bytes(100))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        load(wav)
        probe(wav)
        code_of(str(tmp_path / "bad.wav"))
        code_of(str(tmp_path))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_later_bytes_come_from_the_descriptor_not_from_the_name(wav: Path) -> None:
    with open_file(wav) as file:
        wav.unlink()
        wav.write_bytes(b"another file")
        assert file.pread(4, 0) == b"RIFF"
        assert stat.S_ISREG(os.fstat(file.stored.fileno()).st_mode)


def test_two_files_read_the_same_whatever_was_read_before(wav: Path) -> None:
    first = load(wav)
    load(wav, offset_s=0.5)
    np.testing.assert_array_equal(load(wav), first)
