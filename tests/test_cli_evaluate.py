"""`gol-decouple evaluate`."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RunCli

from gol_decouple.detection import evaluate_lvis
from tests.detection.made import random_set

FIGURES = "ap,ap50,ap75,ap_s,ap_m,ap_l,ap_r,ap_c,ap_f,ar,ar_s,ar_m,ar_l"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    tree, results = random_set(4)
    paths = tmp_path / "truth.json", tmp_path / "results.json"
    for path, value in zip(paths, (tree, results), strict=True):
        path.write_text(json.dumps(value))
    return paths


@pytest.mark.parametrize("evaluator", ["columnar", "lvis"])
def test_json_is_the_dict(run_cli: RunCli, files: tuple[Path, Path], evaluator: str) -> None:
    outcome = run_cli("evaluate", *files, "--format", "json", "--evaluator", evaluator)
    assert (outcome.code, outcome.err) == (0, "")
    figures = json.loads(outcome.out)
    expected = evaluate_lvis(*files)
    assert figures.pop("per_class") == pytest.approx({str(id_): ap for id_, ap in expected.pop("per_class").items()})
    assert figures == pytest.approx(expected)


def test_csv_has_all_figures_or_all_categories(run_cli: RunCli, files: tuple[Path, Path]) -> None:
    expected = evaluate_lvis(*files)
    lines = run_cli("evaluate", *files, "--format", "csv").out.splitlines()
    assert lines[0] == FIGURES
    assert len(lines) == 2
    values = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert values == {name: "" if expected[name] is None else str(expected[name]) for name in values}
    rows = list(csv.DictReader(io.StringIO(run_cli("evaluate", *files, "--format", "csv", "--per-class").out)))
    assert {int(row["category_id"]): float(row["ap"]) if row["ap"] else None for row in rows} == expected["per_class"]
    assert {(row["name"], row["frequency"]) for row in rows} == {
        (category["name"], category["frequency"]) for category in json.loads(files[0].read_text())["categories"]
    }


def test_the_table_has_what_papers_print(run_cli: RunCli, files: tuple[Path, Path]) -> None:
    expected = evaluate_lvis(*files)
    outcome = run_cli("evaluate", *files)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].strip() == "results.json: bbox, LVIS, in points"
    assert "AP,AP50,AP75,APs,APm,APl,APr,APc,APf,AR" in [",".join(line.split()) for line in lines]
    row = next(line.split() for line in lines if line.split()[:1] == [f"{expected['ap']:.2f}"])
    names = [name for name in expected if name[:2] in ("ap", "ar") and name[:3] != "ar_"]
    assert row == ["–" if expected[name] is None else f"{expected[name]:.2f}" for name in names]
    each = run_cli("evaluate", *files, "--per-class", "--fixed-ap").out
    assert "Fixed AP" in each
    assert all(category["name"] in each for category in json.loads(files[0].read_text())["categories"])


def test_masks(run_cli: RunCli, files: tuple[Path, Path]) -> None:
    results = random_set(4, "segm")[1]
    files[1].write_text(json.dumps(results))
    outcome = run_cli("evaluate", *files, "--iou-type", "segm", "--format", "json")
    assert json.loads(outcome.out)["ap"] == evaluate_lvis(*files, "segm")["ap"]
    outcome = run_cli("evaluate", *files)
    assert (outcome.code, outcome.out) == (2, "")
    told = f"error: {files[1]}: {len(results)} bad results among the first {len(results)}: results[0] (bbox is missing)"
    assert outcome.err.startswith(told)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{}", "RESULTS holds a dict, not a list", "results are a JSON list"),
        (
            '[{"image_id": 9999, "category_id": 1, "score": 1, "bbox": [0, 0, 1, 1]}]',
            "RESULTS: 1 bad results among the first 1: results[0] (",
            "split",
        ),
    ],
)
def test_a_mistake_is_an_error_with_a_hint(
    run_cli: RunCli, files: tuple[Path, Path], text: str, message: str, hint: str
) -> None:
    files[1].write_text(text)
    outcome = run_cli("evaluate", *files)
    assert (outcome.code, outcome.out) == (2, "")
    assert message.replace("RESULTS", str(files[1])) in outcome.err
    assert hint in outcome.err
    assert "Traceback" not in outcome.err
    swapped = run_cli("evaluate", files[1], files[0])
    assert swapped.code == 2
    assert f"error: {files[1]} " in swapped.err


def test_it_waits_for_nothing_heavy(files: tuple[Path, Path]) -> None:
    script = (
        "import sys\n"
        f"sys.argv = ['gol-decouple', 'evaluate', *{[str(path) for path in files]!r}]\n"
        "from gol_decouple.cli import main\n"
        "code = main()\n"
        "sys.exit(str({'torch', 'h5py', 'lvis', 'cv2', 'pycocotools'} & set(sys.modules)) if code == 0 else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == "set()\n"
