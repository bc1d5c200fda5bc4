"""Runs the program again and again in processes that need not import PyTorch, and sends them signals.

A script: it reads a request a line from stdin, and answers each with a line, both JSON (see `kill_lives.Server`). The
program is run in a forked process, which leads a process group of its own and ends as a program of its own does.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import annotated  # noqa: E402
import torch  # noqa: E402
from kill_moments import Moments, Stroke  # noqa: E402

import gol_decouple.analyses.command  # noqa: E402
import gol_decouple.analyses.drawing.by_class  # noqa: E402
import gol_decouple.analyses.drawing.curves  # noqa: E402
import gol_decouple.export  # noqa: E402
import gol_decouple.report.layout  # noqa: E402
import gol_decouple.stages.backbone  # noqa: E402
import gol_decouple.stages.detector  # noqa: E402
import gol_decouple.stages.prediction  # noqa: E402
import gol_decouple.stages.tuning  # noqa: E402, F401
from gol_decouple import files  # noqa: E402
from gol_decouple.backbones import mask_rcnn  # noqa: E402
from gol_decouple.cli import main  # noqa: E402
from gol_decouple.features import layout  # noqa: E402
from gol_decouple.stages import saved  # noqa: E402

BLOCK_BYTES = 2048  # eight rows of ResNet-32, so that tiny files have many blocks
HANGS = 120.0  # seconds after which a program is killed that should have ended


class Arguments(list[str]):
    """The program's arguments; tells when it reads them: from then on it answers for signals."""

    def __init__(self, arguments: list[str], told: int) -> None:
        super().__init__(arguments)
        self._told = told

    def __getitem__(self, key: Any) -> Any:
        os.write(self._told, b"!")
        return super().__getitem__(key)


def prepare() -> None:
    torch.set_num_threads(1)
    layout.BLOCK_BYTES = BLOCK_BYTES
    saved.SECONDS_BETWEEN_SAVES = 0.0
    files._SECONDS_LEFT_BEHIND = -1.0  # of a process on another machine, which there is none here
    mask_rcnn.resnet_fpn_backbone = annotated.narrow_backbone


def run_here(request: dict[str, Any], told: int) -> NoReturn:
    """Be the program, to its end."""
    os.setsid()
    os.chdir(request["folder"])
    for stream, path in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), stream)
    sys.argv = Arguments(["gol-decouple", *request["arguments"]], told)
    moments = Moments([Stroke(**stroke) for stroke in request["strokes"]] if request["by_moments"] else [])
    seen = os.open(request["seen"], os.O_WRONLY | os.O_CREAT, 0o666)
    moments.watch()
    tell_of_the_end(moments, seen)
    code = 1
    try:
        code = main()
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    # As Python ends, but for the objects that it would take apart one by one: the server's are many.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def tell_of_the_end(moments: Moments, seen: int) -> None:
    """Write to `seen` what was counted as soon as the program leaves signals to the system: it is done then."""
    real, process = signal.signal, os.getpid()

    def watched(number: int, handler: Any) -> Any:
        if handler is signal.SIG_DFL and number == signal.SIGTERM and os.getpid() == process:
            os.pwrite(seen, json.dumps(moments.end()).encode(), 0)
        return real(number, handler)

    signal.signal = watched


def wait(process: int, ready: int, strokes: list[Stroke]) -> dict[str, Any]:
    """Send the strokes, counted in seconds from when the program is ready; what became of it."""
    select.select([ready], [], [], HANGS)
    started, watched = time.monotonic(), os.pidfd_open(process)
    for stroke in [*strokes, Stroke(HANGS, signal.SIGKILL, group=True)]:
        left = max(0.0, started + stroke.at - time.monotonic())
        if select.select([watched], [], [], left)[0]:
            break
        (os.killpg if stroke.group else os.kill)(process, stroke.number)
    seconds = time.monotonic() - started
    os.close(watched)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return {"code": code, "seconds": seconds, "hung": seconds >= HANGS}


def bury(groups: list[int]) -> None:
    """End what is left of the programs' process groups."""
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue
    groups.clear()


def serve() -> NoReturn:
    """Answer requests, to the end of stdin."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    groups: list[int] = []
    prepare()
    gc.freeze()  # else every program's collector would copy what they share
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request is None:
            bury(groups)
            answer: dict[str, Any] = {}
        else:
            ready, told = os.pipe()
            process = os.fork()
            if process == 0:
                run_here(request, told)
            os.close(told)
            groups.append(process)
            strokes = [] if request["by_moments"] else [Stroke(**stroke) for stroke in request["strokes"]]
            answer = wait(process, ready, strokes)
            os.close(ready)
        print(json.dumps(answer), file=answers, flush=True)
    bury(groups)
    os._exit(0)


if __name__ == "__main__":
    serve()
