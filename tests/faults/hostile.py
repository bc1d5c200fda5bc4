"""The program against bad inputs: in a process apart, with bounded time and memory, beside good files."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CANARY = "canary"
SECONDS = 60  # far more than any case takes, on a busy machine too; a hang ends there
GIGABYTE = 2**30
_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "write_through": True}
ROOM = 2 * GIGABYTE  # address space beyond what the process has; bombs ask for more


@dataclass(frozen=True)
class Good:
    """Files that are right, for cases to name beside their bad one; none may be changed.

    Attributes:
        config: of images in an .npz file, with a ResNet-32.
        run: a finished run of it, with a classifier of stage two.
        features: a features file.
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
    """Cases by name."""

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


def run_all(cases: dict[str, Case], folder: Path, good: Good) -> dict[str, list[str]]:
    """What was wrong with how the program took each case, by its name; nothing, as it should be.

    A process takes one case after the other; one that ends it, or that takes too long, is told, and another process
    takes the rest.
    """
    found: dict[str, list[str]] = {}
    names = list(cases)
    while left := names[len(found) :]:
        told, telling = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
            child = os.fork()
        if child == 0:
            os.close(told)
            _take_cases({name: cases[name] for name in left}, folder, good, telling)
        os.close(telling)
        with os.fdopen(told, encoding="utf-8") as lines:
            found |= dict(map(json.loads, lines))
        _, status = os.waitpid(child, 0)
        if status:
            found[names[len(found)]] = [f"the process was ended by it: {os.waitstatus_to_exitcode(status)}"]
    return found


def _take_cases(cases: dict[str, Case], folder: Path, good: Good, telling: int) -> None:
    """Take some cases in this process, which ends then."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.resetwarnings()
    warnings.simplefilter("default")
    for number, (name, case) in enumerate(cases.items()):
        own = folder / f"{len(cases)}-{number}"
        own.mkdir(parents=True)
        signal.alarm(SECONDS)
        try:
            faults = faults_of(case, own, good)
        except BaseException:
            faults = [traceback.format_exc()]
        signal.alarm(0)
        os.write(telling, f"{json.dumps([name, faults])}\n".encode())
        shutil.rmtree(own, ignore_errors=True)
    os._exit(0)


def _run(folder: Path, arguments: list[Any], room: int = ROOM) -> Ended:
    """The program in this process, with bounded memory, and what it writes in files, as bytes that nobody changed."""
    from gol_decouple.cli import main

    texts = folder.with_name(f"{folder.name}.out"), folder.with_name(f"{folder.name}.err")
    kept, streams, limits = [os.dup(1), os.dup(2)], (sys.stdout, sys.stderr), resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    code = 99
    try:
        os.chdir(folder)
        for stream, path in zip((1, 2), texts, strict=True):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, stream)
            os.close(opened)
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w", closefd=False), **_TEXT) for number in (1, 2))
        resource.setrlimit(resource.RLIMIT_AS, (used + room, limits[1]))
        sys.argv = ["gol-decouple", *map(str, arguments)]
        code = main()
    except BaseException:
        traceback.print_exc()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = streams
        for stream, before in zip((1, 2), kept, strict=True):
            os.dup2(before, stream)
            os.close(before)
    return Ended(code, *(path.read_text(errors="replace") for path in texts))


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
    ended = _run(folder, arguments)
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
