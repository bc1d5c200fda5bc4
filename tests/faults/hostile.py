"""The program against one bad input: in a process of its own, with bounded time and memory, beside good files."""

from __future__ import annotations

import hashlib
import os
import pickle
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CANARY = "canary"
SECONDS = int(os.environ.get("HSEC", "60"))  # far more than any case takes, on a busy machine too; a hang ends there
GIGABYTE = 2**30
ROOM = 2 * GIGABYTE  # address space beyond what the process has; bombs ask for more


@dataclass(frozen=True)
class Good:
    """Files that are right, for cases to name beside their bad one; none may be changed.

    Attributes:
        config: of images in an .npz file, with a ResNet-32.
        run: a finished run of it.
        features: a features file.
        folder: a config of images in folders, which stand in `images` beside it.
    """

    config: Path
    run: Path
    features: Path


@dataclass(frozen=True)
class Case:
    """A bad input, and what may become of it.

    Attributes:
        make: writes it into a folder; returns the program's arguments.
        codes: exit codes that are right.
        says: what the error says, where more than "error: " counts.
    """

    make: Callable[[Path, Good], list[Any]]
    codes: tuple[int, ...] = (2,)
    says: str = ""


@dataclass
class Corpus:
    """Cases by name; `corpus.case("name")` adds one."""

    cases: dict[str, Case] = field(default_factory=dict)

    def add(
        self, name: str, make: Callable[[Path, Good], list[Any]], codes: tuple[int, ...] = (2,), says: str = ""
    ) -> None:
        assert name not in self.cases, name
        self.cases[name] = Case(make, codes, says)


@dataclass(frozen=True)
class Ended:
    code: int  # negative: the signal that ended it
    out: str
    err: str


class Payload:
    """Unpickling it writes the canary: code from data has run."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / CANARY)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


def payload(folder: Path, protocol: int = 2) -> bytes:
    """A pickle that runs code."""
    return pickle.dumps({"state_dict": Payload(folder)}, protocol)


def run_apart(folder: Path, arguments: list[Any], room: int = ROOM) -> Ended:
    """The program in a forked process, which a hang or a crash ends alone."""
    out, err = folder.with_name(f"{folder.name}.out"), folder.with_name(f"{folder.name}.err")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
        child = os.fork()
    if child == 0:
        _be_the_program(folder, [str(argument) for argument in arguments], out, err, room)
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), out.read_text(errors="replace"), err.read_text(errors="replace"))


def _be_the_program(folder: Path, arguments: list[str], out: Path, err: Path, room: int) -> None:
    from gol_decouple.cli import main

    code = 99
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        os.chdir(folder)
        for path, stream in ((out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.stdout, sys.stderr = (
            os.fdopen(stream, "w", encoding="utf-8", errors="surrogateescape") for stream in (1, 2)
        )
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        warnings.resetwarnings()
        warnings.simplefilter("default")
        sys.argv = ["gol-decouple", *arguments]
        code = main()
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def snapshot(*folders: Path) -> dict[str, str]:
    """What is in every file of some folders, of regular ones by their bytes."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                found[str(path)] = f"no file {path.is_symlink()}"
            else:
                with path.open("rb") as file:
                    found[str(path)] = hashlib.file_digest(file, "md5").hexdigest()
    return found


def faults_of(case: Case, folder: Path, good: Good) -> list[str]:
    """What was wrong with how the program took a bad input; nothing, as it should be."""
    arguments = case.make(folder, good)
    before = snapshot(folder)
    ended = run_apart(folder, arguments)
    faults = []
    if ended.code not in case.codes:
        faults.append(f"ended with {ended.code}, not {case.codes}")
    if "Traceback" in ended.err:
        faults.append("a traceback")
    if ended.code in (2, 3) and not any(line.startswith("error: ") for line in ended.err.splitlines()):
        faults.append("no error is told")
    if case.says not in ended.err:
        faults.append(f"does not say {case.says!r}")
    # What is printed for programs, such as the names of bad images, is as it is.
    if "\x1b" in ended.err or ("\x1b" in ended.out and arguments[0] != "check"):
        faults.append("an escape sequence reaches the terminal")
    if (folder / CANARY).exists():
        faults.append("code from data has run")
    after = snapshot(folder)
    faults += [f"{path} was changed" for path, content in before.items() if after.get(path) != content]
    return [*faults, ended.err[-3000:]] if faults else []
