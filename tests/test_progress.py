"""What is said while work goes on: lines off a terminal, a bar on one, nothing by default."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

import gol_decouple
from gol_decouple.progress import SILENT, Progress, to_stderr


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def plain() -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    return Progress(Console(file=stream, force_terminal=False, width=40)), stream


def test_lines_off_a_terminal_tell_rate_and_time_left(clock: Clock) -> None:
    progress, stream = plain()
    with progress.bar("stage one", total=6000, unit="images") as bar:
        for _ in range(3):
            clock.now += 6.0
            bar.advance(1000, "loss 0.5")
        # Lines come ten seconds apart: after 12 s, not after 6 s and not after 18 s.
        assert stream.getvalue() == "stage one: 2,000/6,000 images (33%), 167 images/s, 0:00:24 left, loss 0.5\n"
        clock.now += 18.0
        bar.advance(3000, "loss 0.25")
    lines = stream.getvalue().splitlines()
    assert lines[1] == "stage one: 6,000/6,000 images (100%), 167 images/s, 0:00:00 left, loss 0.25"
    assert lines[2] == "stage one: 6,000/6,000 images (100%), 167 images/s, took 0:00:36, loss 0.25"
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("seconds", "amount", "rate"), [(100.0, 25, "0.25"), (10.0, 33, "3.3"), (2.0, 33, "16"), (1.0, 12345, "12,345")]
)
def test_slow_rates_keep_their_digits(clock: Clock, seconds: float, amount: int, rate: str) -> None:
    progress, stream = plain()
    with progress.bar("gumbel", total=amount, unit="epochs") as bar:
        clock.now += seconds
        bar.advance(amount)
    assert f" {rate} epochs/s, took " in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3_725, "1:02:05"), (90_000, "25:00:00")]
)
def test_durations_are_hours_minutes_seconds(clock: Clock, seconds: float, text: str) -> None:
    progress, stream = plain()
    with progress.bar("features", total=1, unit="images") as bar:
        clock.now += seconds
        bar.advance(1)
    assert stream.getvalue().splitlines()[-1].endswith(f"took {text}")


def test_work_that_fails_is_not_said_to_be_done(clock: Clock) -> None:
    progress, stream = plain()

    def work() -> None:
        with progress.bar("features", total=10, unit="images") as bar:
            clock.now += 1.0
            bar.advance(5)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert "took" not in stream.getvalue()


def test_no_work_at_all_is_no_division_by_zero(clock: Clock) -> None:
    progress, stream = plain()
    with progress.bar("features", total=0, unit="images"):
        pass
    assert stream.getvalue().startswith("features: 0/0 images (0%)")


def test_a_bar_on_a_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(Console(file=stream, force_terminal=True, width=120, color_system=None))
    with progress.bar("stage one", total=10, unit="images") as bar:
        bar.advance(4, "epoch 1/2, loss 0.500")
        progress.say("a line above the bar")
        bar.advance(6, "epoch 2/2, loss 0.250")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    last = text.replace("\r", "\n").strip().splitlines()[-1]
    assert re.search(r"stage one .*10/10 .* images/s .*epoch 2/2, loss 0\.250", last), last
    assert "a line above the bar\n" in text
    assert "took" not in text


def test_in_eighty_columns_counts_are_whole_and_the_note_is_cut() -> None:
    stream = io.StringIO()
    progress = Progress(Console(file=stream, force_terminal=True, width=80, color_system=None))
    with progress.bar("stage one", total=1_100_000, unit="images") as bar:
        bar.advance(550_000, "epoch 6/12, loss 1.798, and what else there may be to say")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    assert all(line.startswith("stage one") and " images/s" in line for line in lines), lines
    assert lines[-1].split()[2:4] == ["550,000/1,100,000", "(50%)"]
    assert "…" in lines[-1]


def test_silent_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    for progress in (SILENT, Progress()):
        progress.say("news")
        progress.warn("careful")
        with progress.bar("stage one", total=2, unit="images") as bar:
            bar.advance(2, "loss")
    assert capfd.readouterr() == ("", "")


def test_messages_are_taken_as_they_are() -> None:
    progress, stream = plain()
    progress.say(f"runs/[bold]x[/] :smile: {'long ' * 20}")
    progress.warn("no train image of 1 classes: [/blue]")
    assert stream.getvalue() == (
        f"runs/[bold]x[/] :smile: {'long ' * 20}\nwarning: no train image of 1 classes: [/blue]\n"
    )


def test_the_programs_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    to_stderr().say("news")
    assert capsys.readouterr() == ("", "news\n")


def test_work_goes_on_when_nobody_reads_its_progress() -> None:
    script = (
        "import os, sys\n"
        "from gol_decouple.progress import to_stderr\n"
        "progress = to_stderr()\n"
        "read, write = os.pipe()\n"
        "os.dup2(write, 2); os.close(read); os.close(write)\n"
        "for _ in range(3): progress.say('news')\n"
        "with progress.bar('work', 1, 'units') as bar: bar.advance(1)\n"
        "print('done')\n"
    )
    root = str(Path(gol_decouple.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_what_is_printed_beside_a_bar_goes_where_it_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    """Rich takes what is written to stdout to where its bar is, unless told not to."""
    stream = io.StringIO()
    with Progress(Console(file=stream, force_terminal=True, width=80)).bar("images", 2, "images") as bar:
        print("a result")
        bar.advance(2)
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in stream.getvalue()


def test_over_hours_lines_come_further_apart(clock: Clock) -> None:
    progress, stream = plain()
    came = []
    with progress.bar("stage one", total=10_000, unit="images") as bar:
        for _ in range(10_000):
            before = stream.tell()
            clock.now += 1.0
            bar.advance(1)
            if stream.tell() > before:
                came.append(round(clock.now - 100.0))
    assert came[:6] == [10, 20, 30, 40, 50, 60]
    assert came[6:15] == list(range(120, 601, 60))
    assert came[15:18] == [900, 1200, 1500]
    assert len(came) < 50


def test_quiet_keeps_warnings_and_errors() -> None:
    stream = io.StringIO()
    progress = Progress(Console(file=stream, force_terminal=False, width=40), quiet=True)
    progress.say("news")
    progress.epoch("stage one", 1, 2, {"lr": 0.1}, is_news=True)
    with progress.bar("stage one", 2, "images") as bar:
        bar.advance(2)
    progress.warn("careful")
    progress.fail("broken", "mend it", 2)
    assert stream.getvalue() == "warning: careful\nerror: broken\nhint: mend it\n"


def test_events_come_a_second_apart(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(Console(file=stream, force_terminal=False, width=40), as_json=True)
    with progress.bar("features", 100, "images") as bar:
        for _ in range(10):
            clock.now += 0.25
            bar.advance(10, "test")
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [one["done"] for one in told] == [0, 40, 80, 100]
    assert [one["finished"] for one in told] == [False, False, False, True]
    assert (told[0]["per_second"], told[0]["seconds_left"]) == (None, None)
    assert (told[1]["per_second"], told[1]["seconds"], told[1]["seconds_left"]) == (40.0, 1.0, 1.5)
    assert (told[3]["note"], told[3]["seconds_left"]) == ("test", 0.0)


def test_an_epoch_is_a_line_where_it_is_news() -> None:
    progress, stream = plain()
    progress.epoch("stage one", 1, 20, {"lr": 0.1, "train_loss": 2.34567, "accuracy": None}, is_news=False)
    progress.epoch("stage one", 10, 20, {"lr": 1e-5, "train_loss": 0.5, "accuracy": 61.25}, is_news=True)
    assert stream.getvalue() == "stage one: epoch 10/20, lr 1e-05, train loss 0.5, accuracy 61.25\n"


TALK = (
    "from gol_decouple.progress import to_stderr\n"
    "progress = to_stderr()\n"
    "progress.warn('careful')\n"
    "with progress.bar('work', 1, 'units') as bar: bar.advance(1, 'done')\n"
)


@pytest.mark.parametrize(
    "variables",
    [
        *({}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"NO_COLOR": "1"}, {"TERM": "dumb"}),
        {"CI": "true", "GITHUB_ACTIONS": "true", "FORCE_COLOR": "3", "CLICOLOR_FORCE": "1"},
    ],
    ids=str,
)
def test_no_control_codes_where_stderr_is_no_terminal(variables: dict[str, str]) -> None:
    root = str(Path(gol_decouple.__file__).parents[1])
    environment = os.environ | variables
    done = subprocess.run([sys.executable, "-c", TALK], cwd=root, env=environment, capture_output=True, check=True)
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "warning: careful"
    assert lines[1].startswith("work: 1/1 units (100%), ")
    assert len(lines) == 2
    assert b"\x1b" not in done.stderr
    assert b"\r" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "moves"), [({}, True), ({"TERM": "dumb"}, False), ({"TTY_INTERACTIVE": "0"}, False)]
)
def test_bars_move_on_a_terminal_that_can(variables: dict[str, str], moves: bool) -> None:
    pty = pytest.importorskip("pty")
    root = str(Path(gol_decouple.__file__).parents[1])
    main, other = pty.openpty()
    environment = {"TERM": "xterm", **os.environ} | variables
    subprocess.run([sys.executable, "-c", TALK], cwd=root, env=environment, stderr=other, check=True)
    os.close(other)
    told = b""
    with contextlib.suppress(OSError):  # what Linux says at the end
        while part := os.read(main, 4096):
            told += part
    os.close(main)
    assert (b"\x1b[" in told) == moves
    assert (b"took" in told) != moves
