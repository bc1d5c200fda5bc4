"""A report beside a command that writes what it reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gol_decouple import runs
from gol_decouple.errors import InputError
from gol_decouple.report.steady import ATTEMPTS, steadily


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in ("a", "b")]
    for folder in found:
        folder.mkdir()
        runs.write_manifest(folder, {"figures": "old"})
        (folder / "figures").write_text("old")
    return found


class Reader:
    """Reads manifests, then what is beside them; in between, something happens, the first `times`."""

    def __init__(self, folders: list[Path], happens: object, times: int = 1) -> None:
        self.reads, self._folders, self._happens, self._times = 0, folders, happens, times

    def finished(self) -> list[Path]:
        return [folder for folder in self._folders if runs.is_finished(folder)]

    def __call__(self) -> list[tuple[str, str]]:
        self.reads += 1
        folders = self.finished()
        told = [runs.read_manifest(folder)["figures"] for folder in folders]
        if self.reads <= self._times:
            assert callable(self._happens)
            self._happens(self._folders[1])
        return list(zip(told, [(folder / "figures").read_text() for folder in folders], strict=True))


def overwrite(folder: Path) -> None:
    (folder / runs.MANIFEST).unlink()
    (folder / "figures").write_text("new")
    runs.write_manifest(folder, {"figures": "new"})


def test_one_that_is_overwritten_meanwhile_is_read_again(folders: list[Path]) -> None:
    read = Reader(folders, overwrite)
    assert steadily(read.finished, read) == [("old", "old"), ("new", "new")]
    assert read.reads == 2


@pytest.mark.parametrize("happens", [shutil.rmtree, lambda folder: (folder / runs.MANIFEST).unlink()])
def test_one_that_goes_meanwhile_is_not_there(folders: list[Path], happens: object) -> None:
    read = Reader(folders, happens)
    assert steadily(read.finished, read) == [("old", "old")]


def test_one_that_is_finished_meanwhile_is_for_the_next_report(folders: list[Path]) -> None:
    (folders[1] / runs.MANIFEST).unlink()
    read = Reader(folders, overwrite_new)
    assert steadily(read.finished, read) == [("old", "old")]
    assert read.reads == 1


def overwrite_new(folder: Path) -> None:
    runs.write_manifest(folder, {"figures": "new"})


def test_a_damaged_one_that_stays_is_told(folders: list[Path]) -> None:
    (folders[1] / runs.MANIFEST).write_text("{")
    read = Reader(folders, lambda folder: None)
    with pytest.raises(InputError, match="is not readable JSON"):
        steadily(read.finished, read)
    assert read.reads == 1


def test_it_ends_where_something_changes_all_the_time(folders: list[Path]) -> None:
    read = Reader(folders, overwrite, times=100)
    assert len(steadily(read.finished, read)) == 2
    assert read.reads == ATTEMPTS + 1
