"""What a result came from: the command, versions, and the checkout, which must be that of this package alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import gol_decouple
from gol_decouple import provenance


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *author, *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def package(top: Path) -> Path:
    folder = top / "gol_decouple"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "errors.py").write_text("")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the package at its top."""
    if shutil.which("git") is None:
        pytest.skip("no git")
    top = tmp_path / "checkout"
    package(top)
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-q", "-m", "all")
    return top


def test_a_checkout_has_its_commit(repository: Path) -> None:
    found = provenance.checkout_of(repository / "gol_decouple")
    assert found == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}


@pytest.mark.parametrize("change", ["gol_decouple/errors.py", "gol_decouple/new.py"])
def test_changed_and_new_files_of_the_package_are_told(repository: Path, change: str) -> None:
    (repository / change).write_text("changed = 1")
    found = provenance.checkout_of(repository / "gol_decouple")
    assert found is not None
    assert found["dirty"]


def test_a_file_that_is_staged_or_removed_is_a_change(repository: Path) -> None:
    (repository / "gol_decouple" / "errors.py").unlink()
    assert provenance.checkout_of(repository / "gol_decouple") == {
        "commit": git(repository, "rev-parse", "HEAD"),
        "dirty": True,
    }


def test_runs_beside_the_package_are_no_change(repository: Path) -> None:
    (repository / "runs").mkdir()
    (repository / "runs" / "config.toml").write_text("")
    found = provenance.checkout_of(repository / "gol_decouple")
    assert found is not None
    assert not found["dirty"]


@pytest.mark.parametrize("ignored", [True, False])
@pytest.mark.parametrize("place", [".venv/lib/python3.12/site-packages", "third_party"])
def test_a_package_that_is_installed_in_somebodys_repository_has_no_commit(
    repository: Path, place: str, ignored: bool
) -> None:
    if ignored:
        (repository / ".gitignore").write_text(f"{place.split('/', maxsplit=1)[0]}\n")
    installed = package(repository / place)
    assert provenance.checkout_of(installed) is None
    if not ignored:  # nor if somebody commits it there
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", "with it")
        assert provenance.checkout_of(installed) is None


def test_a_package_that_git_does_not_track_has_no_commit(repository: Path) -> None:
    git(repository, "rm", "-q", "-r", "--cached", "gol_decouple")
    git(repository, "commit", "-q", "--allow-empty", "-m", "without it")
    assert provenance.checkout_of(repository / "gol_decouple") is None


def test_no_repository_above_is_taken_for_a_broken_one(repository: Path) -> None:
    inner = package(repository / "inner")
    (repository / "inner" / ".git").mkdir()
    assert provenance.checkout_of(inner) is None


def test_a_repository_without_a_commit_has_none(tmp_path: Path, repository: Path) -> None:
    folder = package(tmp_path / "new")
    git(tmp_path / "new", "init", "-q")
    assert provenance.checkout_of(folder) is None


def test_a_hooks_variables_name_no_other_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = provenance.checkout_of(repository / "gol_decouple")
    other = tmp_path / "other"
    package(other)
    git(other, "init", "-q")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "something else")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert provenance.checkout_of(repository / "gol_decouple") == wanted


def test_looking_changes_nothing_in_the_repository(repository: Path) -> None:
    os.utime(repository / "gol_decouple" / "errors.py", (1, 1))  # git would refresh its index
    before = {path: path.read_bytes() for path in (repository / ".git").rglob("*") if path.is_file()}
    provenance.checkout_of(repository / "gol_decouple")
    assert {path: path.read_bytes() for path in (repository / ".git").rglob("*") if path.is_file()} == before


def test_without_git_there_is_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.checkout_of(repository / "gol_decouple") is None


def test_versions_are_those_of_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(provenance, "PACKAGES", (*provenance.PACKAGES, "nothing-is-called-so"))
    found = provenance.versions()
    assert found["gol-decouple"] == gol_decouple.__version__
    assert torch.__version__.startswith(found["torch"].split("+")[0])
    assert {"python", "torchvision", "timm", "numpy", "h5py", "safetensors"} <= found.keys()
    assert "nothing-is-called-so" not in found


def test_a_command_is_told_while_it_runs() -> None:
    assert provenance.command() is None
    with provenance.commanded(["stage1", "my config.toml"]):
        assert provenance.command() == ["gol-decouple", "stage1", "my config.toml"]
    assert provenance.command() is None
    with pytest.raises(KeyError), provenance.commanded(["stage1"]):
        raise KeyError
    assert provenance.command() is None


def test_a_folder_that_was_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    assert provenance.working_folder() == str(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert provenance.working_folder() is None


def test_a_files_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert provenance.file_sha256(tmp_path / "file") == wanted
