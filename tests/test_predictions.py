"""What is read of `predictions.npz`; damaged ones are in tests/report/test_gains.py."""

from pathlib import Path

import numpy as np

from gol_decouple import predictions


def test_the_best_class_comes_first(tmp_path: Path) -> None:
    scores = np.array([[0.5, 0.25], [0.75, 0.125]], np.float32)
    np.savez(tmp_path / "p.npz", id=[7, 8], label=[2, 1], classes=np.array([[2, 0], [0, 1]], np.int32), scores=scores)
    found = predictions.read(tmp_path / "p.npz")
    assert found.predicted.tolist() == [2, 0]
    assert found.hits.tolist() == [True, False]
    assert found.classes.tolist() == [[2, 0], [0, 1]]
    assert found.scores is not None
    assert found.scores.tolist() == scores.tolist()


def test_scores_may_be_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", id=[7], label=[2], classes=[[2, 0]])
    assert predictions.read(tmp_path / "p.npz").scores is None
