"""Where a report goes, and what it says of files that change while it is made."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gol_decouple.report import per_class_tables, written
from gol_decouple.report.formats import Format
from gol_decouple.report.selection import SORT_KEYS
from tests.conftest import RunCli
from tests.report.test_gains import base, method
from tests.report.test_report import manifest, stage_one

TEXTS = [each for each in Format if each is not Format.html]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    base(tmp_path / "runs")
    method(tmp_path / "runs", "gumbel")
    return tmp_path / "runs"


@pytest.mark.parametrize("format_", TEXTS)
def test_a_file_has_what_would_be_printed(tmp_path: Path, run: Path, run_cli: RunCli, format_: Format) -> None:
    printed = run_cli("report", run, "--format", format_)
    outcome = run_cli("report", run, "--format", format_, "-o", tmp_path / "report")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert (tmp_path / "report").read_text(encoding="utf-8") == printed.out
    assert [path.name for path in tmp_path.iterdir() if ".tmp." in path.name] == []


def test_a_table_in_a_file_is_plain_and_80_columns_wide_at_least(
    tmp_path: Path, run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run_cli("report", run, "-o", tmp_path / "wide.txt").code == 0
    lines = (tmp_path / "wide.txt").read_text(encoding="utf-8").splitlines()
    assert "\x1b" not in "".join(lines)
    assert 40 < max(map(len, lines)) <= 80


@pytest.mark.parametrize(("out", "told"), [("no/such/x.csv", "which is no folder"), (".", "is a folder")])
def test_a_file_that_cannot_be_is_told_before_anything_is_read(
    tmp_path: Path, run_cli: RunCli, out: str, told: str
) -> None:
    outcome = run_cli("report", tmp_path / "nothing", "-o", tmp_path / out)
    assert (outcome.code, outcome.out) == (2, "")
    assert told in outcome.err
    assert "hint: name a file in a folder that is there" in outcome.err
    assert not (tmp_path / "no").exists()


def test_a_report_that_fails_leaves_the_file_of_before(tmp_path: Path, run: Path, run_cli: RunCli) -> None:
    (tmp_path / "report.csv").write_text("before")
    assert run_cli("report", run, "--format", "csv", "--method", "crt", "-o", tmp_path / "report.csv").code == 2
    assert (tmp_path / "report.csv").read_text() == "before"


def test_damaged_results_are_told_and_the_others_written(tmp_path: Path, run: Path, run_cli: RunCli) -> None:
    (manifest(run / "lt" / "stage2" / "bad", method="crt") / "manifest.json").write_text("{")
    outcome = run_cli("report", run, "--format", "csv", "-o", tmp_path / "report.csv")
    assert (outcome.code, outcome.out) == (2, "")
    assert "1 result is damaged and left out" in outcome.err
    found = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text())))
    assert [row["method"] for row in found] == ["softmax", "gumbel"]


def test_what_is_written_anew_while_it_is_rendered_is_read_again(
    run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = written.of_rows, []

    def rendering(found: Any, format_: Format, paper: bool) -> Any:
        calls.append(len(found.rows))
        if len(calls) == 1:
            (folder,) = run.glob("lt/stage2/gumbel*")
            tree = json.loads((folder / "manifest.json").read_text())
            tree["metrics"]["top1"] = 77.0
            (folder / "manifest.json").unlink()
            (folder / "manifest.json").write_text(json.dumps(tree))
        return real(found, format_, paper)

    monkeypatch.setattr(written, "of_rows", rendering)
    outcome = run_cli("report", run, "--format", "json")
    assert [row["top1"] for row in json.loads(outcome.out)] == [40.0, 77.0]
    assert len(calls) == 2


def test_paper_figures_are_shown_on_request_and_always_in_json_and_csv(tmp_path: Path, run_cli: RunCli) -> None:
    stage_one(tmp_path / "lt")
    assert "42.4" not in run_cli("report", tmp_path).out
    assert "paper: softmax" in run_cli("report", tmp_path, "--paper").out
    assert "| paper: softmax |" in run_cli("report", tmp_path, "--paper", "--format", "markdown").out
    assert json.loads(run_cli("report", tmp_path, "--format", "json").out)[0]["paper_top1"] == 42.4
    assert csv.DictReader(io.StringIO(run_cli("report", tmp_path, "--format", "csv").out)).__next__()["paper_top1"]


def test_the_document_names_every_option_key_and_column(run_cli: RunCli) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
    shown = run_cli("report", "--help").out
    for option in re.findall(r"--[a-z-]+", shown):
        assert option in text or option in ("--runs-dir", "--help"), option
    for option in re.findall(r"`(?:-o`, `)?(--[a-z-]+)", text):
        assert option in shown, option
    named = set(re.findall(r"[a-z_0-9]+", text))
    assert {key for key in SORT_KEYS if not key.startswith(("gain_", "ap"))} <= named
    assert set(per_class_tables.COLUMNS) <= named
    assert {each.value for each in Format} <= named
