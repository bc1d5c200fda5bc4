"""`--quiet` and `--json`: what is said, and in which form, by the commands that train."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import RunCli
from rich.console import Console

import gol_decouple
from gol_decouple.progress import to_stderr
from gol_decouple.progress.events import JsonLines

PARTS = {
    "say": {"message"},
    "warning": {"message"},
    "error": {"message", "hint", "exit_code"},
    "epoch": {"what", "epoch", "epochs", "lr", "train_loss", "accuracy"},
    "progress": {
        *("what", "done", "total", "unit", "per_second", "seconds", "seconds_left", "note", "finished"),
    },
}


def events(err: str) -> list[dict[str, Any]]:
    """What was said, of which every line is an event with just the keys that docs/watching.md names."""
    told = [json.loads(line) for line in err.splitlines()]
    for one in told:
        assert set(one) == PARTS[one["event"]] | {"event", "time"}, one
        assert datetime.fromisoformat(one["time"]).tzinfo is not None
    return told


@pytest.fixture
def run(tmp_path: Path, finished_run: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / finished_run.name))


def test_a_program_can_follow_stage_one(tmp_path: Path, small_config: Path, run_cli: RunCli) -> None:
    settings = ("--set", "stage1.evaluate_every=1", "--runs-dir", tmp_path)
    outcome = run_cli("stage1", small_config, *settings, "--json")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)
    assert (row["run"], row["stage"]) == ("colours", 1)
    told = events(outcome.err)
    epochs = [one for one in told if one["event"] == "epoch"]
    assert [(one["what"], one["epoch"], one["epochs"]) for one in epochs] == [("stage one", n, 3) for n in (1, 2, 3)]
    assert all(isinstance(one["accuracy"], float) for one in epochs)
    bars = [one for one in told if one["event"] == "progress" and one["what"] == "stage one"]
    assert (bars[0]["done"], bars[0]["finished"], bars[0]["seconds_left"]) == (0, False, None)
    assert (bars[-1]["done"], bars[-1]["total"], bars[-1]["finished"]) == (201, 201, True)
    assert bars[-1]["unit"] == "images"
    assert any(one["event"] == "say" and one["message"].startswith("next: gol-decouple stage2") for one in told)


def test_the_documents_program_follows_a_command(tmp_path: Path) -> None:
    page = (Path(gol_decouple.__file__).parents[1] / "docs" / "watching.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    rows = [{"top1": 40.0, "path": "x" * 100}] * 2_000  # more than a pipe holds
    (tmp_path / "result.json").write_text(json.dumps(rows))
    stand_in = tmp_path / "gol-decouple"
    stand_in.write_text(
        "#!/bin/sh\necho 'a line of a library' >&2\ncat $(dirname $0)/result.json\n"
        'echo \'{"event": "epoch", "epoch": 3, "train_loss": 0.5, "accuracy": null}\' >&2\n'
    )
    stand_in.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "-c", program + "\nprint(len(rows))"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["3 0.5 None", "2000"]


def test_figures_that_are_no_numbers_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    JsonLines(Console(stderr=True)).epoch("stage one", 1, 2, {"train_loss": math.nan, "accuracy": None}, True)
    told = json.loads(capsys.readouterr().err)
    assert (told["train_loss"], told["accuracy"]) == (None, None)


def test_results_in_a_log_have_no_control_codes(run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    outcome = run_cli("report", run)
    assert (outcome.code, "\x1b" in outcome.out) == (0, False)


def test_the_result_of_stage_two_is_what_the_report_prints(run: Path, run_cli: RunCli) -> None:
    outcome = run_cli("stage2", run, "--method", "gumbel", "--set", "stage2.epochs=2", "--json")
    assert outcome.code == 0, outcome.err
    events(outcome.err)
    assert outcome.out == run_cli("report", run, "--format", "json").out
    assert [row["method"] for row in json.loads(outcome.out)] == ["softmax", "gumbel"]


def test_quiet_prints_results_and_says_nothing(run: Path, run_cli: RunCli) -> None:
    command = ("stage2", run, "--method", "softmax", "--set", "stage2.epochs=1", "--set", "stage2.q_min=-3")
    outcome = run_cli(*command, "--quiet")
    assert outcome.code == 0
    assert outcome.err == "warning: stage2.q_min has no effect on softmax\n"
    assert "softmax" in outcome.out
    both = run_cli(*command, "--quiet", "--json", "--overwrite")
    (warning,) = events(both.err)
    assert warning["message"] == "stage2.q_min has no effect on softmax"
    assert len(json.loads(both.out)) == 2
    assert "memory: " in run_cli(*command, "--overwrite").err, "and only where it was asked for"


def test_tune_and_rerun_print_their_own_outcome(run: Path, run_cli: RunCli) -> None:
    tuned = run_cli("tune", run, "--method", "ncm", "--minutes", "0.01", "--json")
    assert tuned.code == 0, tuned.err
    events(tuned.err)
    assert json.loads(tuned.out)["methods"][0]["method"] == "ncm"
    again = run_cli("rerun", run, "--json")
    events(again.err)
    outcome = json.loads(again.out)
    assert outcome["of"] == str(run.resolve())
    assert Path(outcome["out"]).is_dir()


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["stage2", "RUN"], "stage2 needs something to train", "--activation gumbel, or --method gumbel_paper"),
        (["stage2", "RUN", "--sed", "3"], "no such option: --sed", "gol-decouple stage2 --help"),
        (["stage2"], "missing argument 'RUN'", "gol-decouple stage2 --help"),
        (["stage1", "cifar10_tl"], "unknown config 'cifar10_tl'", "did you mean 'cifar10_lt'?"),
    ],
)
def test_an_error_is_an_event(run: Path, run_cli: RunCli, arguments: list[str], message: str, hint: str) -> None:
    outcome = run_cli(*(run if argument == "RUN" else argument for argument in arguments), "--json")
    assert (outcome.code, outcome.out) == (2, "")
    (error,) = events(outcome.err)
    assert error["event"] == "error"
    assert error["message"].startswith(message)
    assert error["hint"].startswith(hint)
    assert error["exit_code"] == 2


def test_what_comes_after_a_command_talks_as_usual(run_cli: RunCli, capsys: pytest.CaptureFixture[str]) -> None:
    run_cli("stage1", "cifar10_tl", "--json")
    to_stderr().say("news")
    assert capsys.readouterr().err == "news\n"
    assert run_cli("stage1", "cifar10_tl").err.startswith("error: ")


def test_what_is_finished_is_printed_where_some_failed(run: Path, run_cli: RunCli) -> None:
    settings = ("--set", "stage2.lr=[0.01,1e38]", "--set", "stage2.epochs=2", "--keep-grid")
    outcome = run_cli("stage2", run, "--method", "softmax", *settings, "--json")
    assert outcome.code == 2
    assert [row["lr"] for row in json.loads(outcome.out) if row["stage"] == 2] == [0.01]
    assert events(outcome.err)[-1]["event"] == "error"


def test_names_cannot_leave_their_line(tmp_path: Path, run_cli: RunCli) -> None:
    outcome = run_cli("stage1", "a\n\x1b[31m{}\u2028.toml", "--json")
    (error,) = events(outcome.err)
    assert "a\n\x1b[31m{}\u2028.toml" in error["message"]
    assert outcome.err.isascii()
    assert "\x1b" not in outcome.err


def test_warnings_of_libraries_and_bugs_are_events(
    run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gol_decouple.stages import classifier

    def broken(*_: object, **__: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("soon gone", UserWarning, stacklevel=1)
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(classifier, "run_stage2", broken)
    with pytest.raises(ZeroDivisionError):
        run_cli("stage2", run, "--method", "gumbel", "--json")
    warning, error = events(capsys.readouterr().err)
    assert warning["message"] == "UserWarning: soon gone"
    assert (error["message"], error["exit_code"]) == ("ZeroDivisionError: by zero", 1)
    with pytest.raises(ZeroDivisionError), pytest.warns(UserWarning, match="soon gone"):
        run_cli("stage2", run, "--method", "gumbel")
