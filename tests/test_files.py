"""Files that are published whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gol_decouple import files
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.files import (
    atomic_path,
    disk_errors,
    no_file,
    read_json,
    remove_leftovers,
    temporaries,
    write_json,
    write_text,
    writer_of,
)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The system refuses to let any file of this process grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text in ("old", "new: µ"):
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def no_process() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_killed_processes_left_in_a_folder_of_ours_goes(tmp_path: Path) -> None:
    dead, alive = no_process(), os.getppid()
    kept = {"a.tmp.x", f"a.tmp.{alive}", f"a.tmp.{dead}.log"}
    for name in (*kept, f"a.tmp.{dead}", f"b.tmp.{dead}"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_text("half")
    remove_leftovers(tmp_path)
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == kept
    remove_leftovers(tmp_path / "missing")


@pytest.mark.parametrize(
    "error", [ValueError("bad"), KeyboardInterrupt(), EnvironmentFailure("full"), InputError("no")]
)
def test_an_error_leaves_the_old_file_and_no_temporary(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent, "another file system could not rename"
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)) as raised:
        write_half()
    assert raised.value is error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_before_the_first_byte_leaves_no_temporary(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.txt"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = tmp_path / "a.txt", []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        calls.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        calls.append(f"rename to {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", record_fsync)
    monkeypatch.setattr(files.os, "replace", record_replace)
    write_text(path, "text")
    assert calls == [f"fsync a.txt.tmp.{os.getpid()}", "rename to a.txt", f"fsync {tmp_path.name}"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(EnvironmentFailure, match="disk is full: .*a.txt could not be written") as raised:
        write_text(path, "new")
    assert "free some space" in str(raised.value.hint)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "save",
    [
        lambda path: torch.save({"weight": torch.zeros(100_000)}, path),
        lambda path: save_file({"weight": torch.zeros(100_000)}, path),
        lambda path: path.write_bytes(bytes(400_000)),
    ],
    ids=["torch.save", "save_file", "write_bytes"],
)
def test_the_systems_refusal_is_found_whatever_a_library_makes_of_it(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "weights"
    path.write_text("old")

    def write() -> None:
        with file_size_limit(100_000), atomic_path(path) as temporary:
            save(temporary)

    with pytest.raises(EnvironmentFailure, match="weights cannot be written: File too large"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(EnvironmentFailure, match="runs/a.txt cannot be written: Not a directory") as raised:
        write_text(tmp_path / "runs" / "a.txt", "text")
    assert raised.value.hint == "choose another place (--runs-dir for runs)"


def test_an_error_without_a_number_keeps_its_text(tmp_path: Path) -> None:
    with (
        pytest.raises(EnvironmentFailure, match="a.h5 cannot be written: no room in the superblock"),
        disk_errors(tmp_path / "a.h5"),
    ):
        raise OSError("no room in the superblock")


def test_json_comes_back(tmp_path: Path) -> None:
    tree = {"b": [1, 2.5, None], "a": {"µ": True}}
    write_json(tmp_path / "a.json", tree)
    assert read_json(tmp_path / "a.json") == tree
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]


def test_json_has_a_line_for_what_nests_nothing(tmp_path: Path) -> None:
    rows = [{"lr": 0.1, "of": "a, b"}, {}]
    tree = {"rows": rows, "counts": {"1": (3, 4), "none": []}, 'in "it"': [[[1], "é"]], "last": None}
    write_json(tmp_path / "a.json", tree)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(tree))
    assert text.startswith(
        '{\n  "rows": [\n    {"lr": 0.1, "of": "a, b"},\n    {}\n  ],\n  "counts": {\n    "1": [3, 4],\n'
    )
    assert text.endswith('\n  "last": null\n}\n')


def test_numbers_that_json_does_not_have_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not readable JSON"),
        (b'{"a": ', "is not readable JSON"),
        (b"\xff\xfe", "is not readable JSON"),
        (b"[1]", "does not hold a JSON object"),
        (None, "is not readable JSON: .*No such file"),
    ],
)
def test_damaged_json_is_an_error_with_the_hint(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"manifest.json {message}") as raised:
        read_json(path, "remove it")
    assert raised.value.hint == "remove it"


def test_json_text_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    text = (tmp_path / "a.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == {"a": 1}


# What killed processes leave


def test_temporary_files_of_killed_processes_go_when_their_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    dead, fresh, alive, other = (
        tmp_path / name
        for name in (
            *("last.pt.tmp.999999999", "last.pt.tmp.999999998", f"last.pt.tmp.{os.getppid()}"),
            "previous.pt.tmp.999999999",
        )
    )
    for temporary in (dead, fresh, alive, other):
        temporary.write_bytes(b"half")
    long_ago = time.time() - 3600
    for temporary in (dead, alive, other):
        os.utime(temporary, (long_ago, long_ago))
    assert temporaries(tmp_path) == sorted([dead, fresh, alive, other])
    assert [writer_of(temporary) for temporary in (dead, alive)] == [None, os.getppid()]
    with atomic_path(path) as own:
        own.write_bytes(b"whole")
    assert not dead.exists()
    assert fresh.exists(), "it may be of a process on another machine"
    assert alive.exists()
    assert other.exists()
    assert path.read_bytes() == b"whole"
    assert temporaries(tmp_path) == sorted([fresh, alive, other])


@pytest.mark.parametrize("name", ["last.pt", "last.pt.tmp.", "last.pt.tmp.a", ".tmp.5", "last.pt.tmp.5.bak"])
def test_other_names_are_no_temporary_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    assert temporaries(tmp_path) == []
    assert writer_of(tmp_path / name) is None


def test_what_stands_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    told = {name: no_file(tmp_path / name) for name in ("file", "link", "pipe", "", "none")}
    assert told == {
        "file": None,
        "link": "is a link to /nowhere, where there is no file",
        "pipe": "is no regular file",
        "": "is a folder, where a file is expected",
        "none": "does not exist",
    }
