"""The program: runs a command, and turns whatever ends it into a message and an exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import cast

import typer

from gol_decouple.cli import (  # noqa: F401  # their commands register themselves
    analyze,
    compare,
    doctor,
    lists,
    predict,
    report,
    reproduce,
    rerun,
    train,
    use,
    use_lvis,
)
from gol_decouple.cli.app import app
from gol_decouple.cli.help import arrange
from gol_decouple.errors import FailedElsewhere, GolDecoupleError, InputError, machine_failure
from gol_decouple.launch import find_place
from gol_decouple.limits import check_environment
from gol_decouple.progress import speak, to_stderr
from gol_decouple.provenance import commanded

PROGRAM = "gol-decouple"
# Commands with nothing to continue.
ONE_GO = {
    *("check", "convert", "evaluate", "predict", "export", "report", "compare", "methods", "configs", "analyze"),
    "doctor",
}
_COMES_AGAIN = 0.05  # seconds after which a signal that was lost does
# The class of all errors in how arguments are written, of which Typer exports only this subclass.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)

arrange(app)


def main() -> int:
    """Run the program; returns its exit code. From then on SIGTERM and SIGINT end the process without a word."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as the run before in this process left it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)
    hook = sys.unraisablehook
    sys.unraisablehook = partial(_raise_again, hook)
    # What torch's libraries say of processes that have left is for those who mend them; ours is told below.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    speak(as_json=_as_json())  # of mistakes in the options; the command says how it talks itself
    try:
        check_environment()
        return _run(sys.argv[1:] or ["--help"])
    except UsageError as error:
        where = error.ctx.command_path if error.ctx else PROGRAM
        message = error.format_message().rstrip(".")
        return _fail(InputError(message[0].lower() + message[1:], f"{where} --help"))
    except (KeyboardInterrupt, _Terminated) as stop:
        _raise_no_more()
        if _is_main_process():  # of several processes, which are stopped together, one tells
            _tell("stopped", None if ONE_GO & set(sys.argv[1:2]) else _how_to_continue(), _code(stop))
        return _leave(_code(stop))
    except Exception as error:
        failure = error if isinstance(error, GolDecoupleError) else machine_failure(error, *sys.argv[1:2])
        if failure is None:
            if _as_json():  # a bug of ours, which people see by its traceback
                _tell(f"{type(error).__name__}: {error}", "this should not be: report it, with what follows", 1)
            raise
        return _fail(failure)
    finally:
        _raise_no_more()
        sys.unraisablehook = hook
        speak()


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with commanded(arguments), _warnings_told():
            code = command.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except SystemExit as leaving:
        # Typer and rich leave so when the reader of our output (head, less) has seen enough.
        if isinstance(leaving.__context__, BrokenPipeError):
            return 0
        return leaving.code if isinstance(leaving.code, int) else 1  # of completion, with 0
    if code == 130:  # what Typer makes of a KeyboardInterrupt
        raise KeyboardInterrupt
    return code or 0


def _as_json() -> bool:
    return "--json" in sys.argv


@contextlib.contextmanager
def _warnings_told() -> Iterator[None]:
    """What libraries warn of is an event too, where a program reads what is said."""
    if not _as_json():
        yield
        return
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, kind, *_: _tell_warning(f"{kind.__name__}: {message}")
        yield


def _tell_warning(message: str) -> None:
    if _is_main_process():
        to_stderr().warn(message)


class _Terminated(BaseException):
    """SIGTERM, as an exception that unwinds like KeyboardInterrupt."""


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    # Worker processes that got the signal too are no longer news; torch would raise that they died.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    raise _Terminated


def _raise_again(hook: Callable[[sys.UnraisableHookArgs], object], lost: sys.UnraisableHookArgs) -> None:
    """A signal that came where Python lets no exception through, as while it forks a worker, comes again."""
    number = {KeyboardInterrupt: signal.SIGINT, _Terminated: signal.SIGTERM}.get(lost.exc_type)
    if number is None:
        hook(lost)
        return
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
    signal.setitimer(signal.ITIMER_REAL, _COMES_AGAIN)


def _raise_no_more() -> None:
    """Leave signals to the system: an exception would come up in whatever Python does to end, and be told there."""
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _code(stop: BaseException) -> int:
    return 143 if isinstance(stop, _Terminated) else 130


def _how_to_continue() -> str:
    if "--overwrite" not in sys.argv:
        return "run the same command again: it continues where it was"
    if sys.argv[1:2] == ["stage2"]:  # without --overwrite, it would keep what it has not come to
        return "run the same command again: it trains all of it again"
    return "run the same command again without --overwrite: it continues where it was"


def _is_main_process() -> bool:
    try:
        return find_place().rank == 0
    except InputError:
        return True


def _fail(error: GolDecoupleError) -> int:
    if not isinstance(error, FailedElsewhere):
        _tell(error.message, error.hint, error.exit_code)
    return _leave(error.exit_code)


def _leave(code: int) -> int:
    """The exit code after a failure; a process that is connected with others ends with it at once.

    What Python would tear down then is a connection to processes that have gone, and its C++ code can abort on that.
    """
    connections = sys.modules.get("torch.distributed")
    if connections is not None and connections.is_initialized():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    return code


def _tell(message: str, hint: str | None, exit_code: int) -> None:
    with contextlib.suppress(OSError):  # stderr can be closed, or full
        to_stderr().fail(message, hint, exit_code)
