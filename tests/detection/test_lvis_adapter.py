"""The `lvis` package behind its adapter: the same figures, and nothing changed for the rest of the process."""

from __future__ import annotations

import builtins
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gol_decouple.detection import evaluate_lvis, evaluation
from gol_decouple.errors import EnvironmentFailure
from tests.detection.made import by_the_package, random_set, same


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_it_says_what_the_package_says(tmp_path: Path, iou_type: str) -> None:
    for seed in range(30):
        tree, results = random_set(seed, iou_type)
        expected = by_the_package(tree, results, iou_type, tmp_path)
        same(evaluate_lvis(tree, results, iou_type, evaluator="lvis"), expected)
        files = (tmp_path / "truth.json", tmp_path / "results.json")
        same(evaluate_lvis(*files, iou_type, evaluator="lvis"), expected)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_its_options_are_the_columnar_ones(monkeypatch: pytest.MonkeyPatch, iou_type: str) -> None:
    monkeypatch.setattr(evaluation, "FIXED_AP_DETECTIONS", 4)
    changed = 0
    for seed in range(30):
        tree, results = random_set(seed, iou_type)
        plain = evaluate_lvis(tree, results, iou_type)
        for options in ({"fixed_ap": True}, {"max_dets": 3}):
            found = evaluate_lvis(tree, results, iou_type, **options)
            same(found, evaluate_lvis(tree, results, iou_type, evaluator="lvis", **options))
            changed += found != plain
    assert changed > 30


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_what_fails_in_the_package_does_not_here(iou_type: str) -> None:
    tree, results = random_set(4, iou_type)
    same(evaluate_lvis(tree, [], iou_type, evaluator="lvis"), evaluate_lvis(tree, [], iou_type))
    for image in tree["images"]:
        del image["not_exhaustive_category_ids"]
    for category in tree["categories"]:
        del category["frequency"]
    tree["annotations"][0]["id"] = 0
    for row in results:
        if iou_type == "segm":
            row["segmentation"] = [[1, 2, 40, 2, 40, 30, 3.5, 33]]
    found = evaluate_lvis(tree, results, iou_type, evaluator="lvis")
    assert found["ap"] is not None
    assert found["ap_f"] is None
    same(found, evaluate_lvis(tree, results, iou_type))


def test_what_is_given_stays_as_it_is() -> None:
    for iou_type in ("bbox", "segm"):
        tree, results = random_set(4, iou_type)
        before = repr((tree, results))
        for evaluator in ("columnar", "lvis"):
            evaluate_lvis(tree, results, iou_type, evaluator=evaluator)
        assert repr((tree, results)) == before


def test_numpy_and_logging_stay_as_they_are() -> None:
    script = (
        "import logging, sys, numpy\n"
        "from gol_decouple.detection import evaluate_lvis\n"
        "import json\n"
        "tree, results = json.loads(sys.argv[1])\n"
        "evaluate_lvis(tree, results, evaluator='lvis')\n"
        "import lvis.eval\n"
        "assert not hasattr(numpy, 'float') and lvis.eval.np is numpy\n"
        "assert not logging.getLogger().handlers and logging.getLogger().level == logging.WARNING\n"
    )
    import json

    command = [sys.executable, "-c", script, json.dumps(random_set(4))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    assert not hasattr(np, "float")


@pytest.mark.parametrize("reason", ["libGL.so.1: cannot open shared object file", "No module named 'lvis'"])
def test_a_package_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    real = builtins.__import__

    def failing(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "lvis":
            raise ImportError(reason)
        return real(name, *rest)

    handlers = list(logging.getLogger().handlers)
    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(EnvironmentFailure) as caught:
        evaluate_lvis(*random_set(4), evaluator="lvis")
    assert caught.value.message == f"the lvis package cannot be imported: {reason}"
    assert "opencv-python-headless" in caught.value.hint
    assert logging.getLogger().handlers == handlers
    assert evaluate_lvis(*random_set(4))["ap"] is not None, "the columnar evaluator does without it"
