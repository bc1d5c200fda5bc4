"""What a result came from that is no setting: the command, the versions of what computed it, and its input files.

No torch: asking for a version imports nothing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import gol_decouple
from gol_decouple.files import file_sha256

# What computes, decodes or stores what ends up in a run.
PACKAGES = ("torch", "torchvision", "timm", "numpy", "h5py", "safetensors", "pillow")
_SECONDS_FOR_GIT = 10.0

_commands: list[list[str]] = []


@contextmanager
def commanded(arguments: Sequence[str]) -> Iterator[None]:
    """All that is done meanwhile is done by a command with these arguments."""
    _commands.append(["gol-decouple", *arguments])
    try:
        yield
    finally:
        _commands.pop()


def command() -> list[str] | None:
    """The command as it was typed, with its arguments; None: a program called the library."""
    return _commands[-1] if _commands else None


def working_folder() -> str | None:
    """What relative paths of a config and a command start from; None: it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def versions() -> dict[str, str]:
    """Of this package, Python, and those of `PACKAGES` that are installed."""
    from importlib import metadata  # with the parser of mails, which no report needs

    found = {"gol-decouple": gol_decouple.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def checkout() -> dict[str, Any] | None:
    """The git commit of the checkout that this package runs from, as it was when that was first asked.

    Returns:
        `commit`, and `dirty`, whether files of the package differ from it; None: it is installed, or there is no git.
    """
    return checkout_of(Path(gol_decouple.__file__).resolve().parent)


def checkout_of(package: Path) -> dict[str, Any] | None:
    """The same of any package. Git must track it at the top of a repository.

    A package that is installed in somebody's repository, in its .venv say, is not of that repository's commit.
    """
    top = package.parent
    if not (top / ".git").exists():
        return None
    commit = _git(top, "rev-parse", "--verify", "HEAD")
    tracked = _git(top, "ls-files", "--error-unmatch", "--", f"{package.name}/__init__.py")
    changed = _git(top, "status", "--porcelain", "--", package.name)
    if commit is None or tracked is None or changed is None:
        return None
    return {"commit": commit.strip(), "dirty": bool(changed.strip())}


def remember() -> None:
    """Look at the package's files, for manifests that are written when hours of training are done."""
    checkout()
    code_sha256()


@cache
def code_sha256() -> str:
    """sha256 of this package's source files, in a checkout or installed, as they were when that was first asked."""
    package = Path(gol_decouple.__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints in a folder; None if it fails, or is not there."""
    # A hook's variables would name another repository; and neither is another one above this folder meant.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    own |= {"GIT_CEILING_DIRECTORIES": str(folder.parent), "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, env=own, capture_output=True, text=True, check=False, timeout=_SECONDS_FOR_GIT
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None
