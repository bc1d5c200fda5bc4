"""Locks that end with their process, and folders without them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from pathlib import Path
from typing import TextIO

import pytest

from gol_decouple import runs
from gol_decouple.errors import EnvironmentFailure
from gol_decouple.locks import locked


def is_free(path: Path) -> bool:
    with locked(path) as is_ours:
        return is_ours


def test_a_lock_is_for_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "a") as is_ours:
        assert is_ours
        assert not is_free(tmp_path / "a")
        assert is_free(tmp_path / "b")
    assert is_free(tmp_path / "a")


def test_one_that_is_refused_takes_nothing_from_the_one_that_has_it(tmp_path: Path) -> None:
    with locked(tmp_path / "a"):
        assert not is_free(tmp_path / "a")
        assert not is_free(tmp_path / "a")


def test_an_error_frees_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "a"):
        _ = 1 / 0
    assert is_free(tmp_path / "a")


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock

    def late(lock: TextIO, operation: int) -> None:
        (tmp_path / "a").unlink()
        real(lock, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert not is_free(tmp_path / "a")


def test_a_folder_that_nothing_was_written_into_goes_again(tmp_path: Path) -> None:
    with runs.working_on(tmp_path / "runs" / "a"):
        assert (tmp_path / "runs" / "a").is_dir()
    assert not (tmp_path / "runs").exists()
    with runs.working_on(tmp_path / "runs" / "a"):
        (tmp_path / "runs" / "a" / "result").write_text("")
    assert (tmp_path / "runs" / "a" / "result").is_file()
    (tmp_path / "b").mkdir()
    with runs.working_on(tmp_path / "b"):
        pass
    assert (tmp_path / "b").is_dir()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_process_leaves_no_lock_and_neither_do_its_workers(tmp_path: Path) -> None:
    """A worker that outlives it for a while: it has all open files of the process that it was forked from."""
    reading, writing = os.pipe()
    main = os.fork()
    if main == 0:
        try:
            with locked(tmp_path / "a"):
                worker = os.fork()
                if worker:
                    os.write(writing, str(worker).encode())
                time.sleep(60)
        finally:
            os._exit(0)  # neither of them is to go on with the tests
    worker = int(os.read(reading, 20))
    try:
        is_taken = not is_free(tmp_path / "a")
        os.kill(main, signal.SIGKILL)
        os.waitpid(main, 0)
        assert is_taken
        assert is_free(tmp_path / "a")
        os.kill(worker, 0)
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_lets_everyone_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with runs.working_on(tmp_path / "run"), runs.working_on(tmp_path / "run"):
        pass


def test_a_folder_that_cannot_be_written_is_no_folder_to_work_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "open", read_only)
    with (
        pytest.raises(EnvironmentFailure, match="run cannot be written: Read-only file system"),
        runs.working_on(tmp_path / "run"),
    ):
        pass
