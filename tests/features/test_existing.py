"""A features file that is in the place of the one to be written, finished or begun."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from gol_decouple.distributed import ALONE
from gol_decouple.errors import InputError
from gol_decouple.features.existing import Plan, is_written
from gol_decouple.features.layout import Header, LinearWeights, Samples, SplitLayout
from gol_decouple.features.logs import shard_path
from gol_decouple.features.writer import FeatureWriter
from gol_decouple.progress import SILENT, Progress

LABELS = np.array([0, 1, 2, 0])


def plan(weights: str = "1", labels: np.ndarray = LABELS, bias: float = 0.0, rows: int = 2, **changes: object) -> Plan:
    classifier = LinearWeights(np.ones((3, 2), np.float32), np.full(3, bias, np.float32))
    origin = {"backbone": {"name": "x", "sha256": weights, "precision": "float32"}, "dataset": {"sha256": "d"}}
    header = Header(["a", "b", "c"], "float32", 2, classifier, origin, row_order_seed=0)
    ids = np.arange(len(labels))
    return dataclasses.replace(header, **changes), {
        name: SplitLayout(Samples(labels, ids), 1, rows) for name in ("train", "test")
    }


def write(path: Path, of: Plan, finish: bool = True, shard: bool = False) -> Path:
    """A features file of zeros, or one that was begun."""
    with FeatureWriter(path, *of, shard=shard) as writer:
        for block in writer.pending[: None if finish else 1]:
            writer.write(block, np.zeros((block.stop - block.start, 2), np.float32))
        if finish:
            writer.publish()
    return path


OTHERS = [
    (lambda: plan(class_names=["b", "a", "c"]), "class order: class 0 'b' -> 'a', and 1 more"),
    (lambda: plan(row_order_seed=1), "row_order_seed: 1 -> 0"),
    (lambda: plan(dtype="float16"), "dtype: float16 -> float32"),
    (lambda: plan(origin=plan()[0].origin | {"transform": {"interpolation": "bicubic"}}), "transform: "),
    (lambda: plan(origin=plan()[0].origin | {"dataset": {"sha256": "e"}}), "dataset.sha256: e -> d"),
    (
        lambda: plan(origin={**plan()[0].origin, "backbone": {"name": "x", "sha256": "1", "precision": "bfloat16"}}),
        "backbone.precision: bfloat16 -> float32",
    ),
    (lambda: plan(labels=LABELS[:3]), "images.train: 3 -> 4"),
    (lambda: plan(labels=LABELS[::-1].copy()), "train: its labels, its ids or their order"),
    (lambda: plan(bias=1.0), "the classifier's weights"),
    (lambda: plan(classifier=None), "the classifier's weights"),
    (lambda: plan(rows=1), "train: 1 -> 2 rows a block"),
]


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "begun"])
@pytest.mark.parametrize(("make", "field"), OTHERS, ids=[field for _, field in OTHERS])
def test_a_file_of_another_plan_is_refused_by_what_differs(
    tmp_path: Path, finished: bool, make: Callable[[], Plan], field: str
) -> None:
    path = tmp_path / "features.h5"
    write(path, make(), finished)
    there = path if finished else tmp_path / "features.h5.partial"
    before = there.read_bytes()
    with pytest.raises(InputError) as raised:
        is_written(path, plan(), ALONE, SILENT)
    assert raised.value.message.startswith(f"{there} is of other features than those to be written: ")
    assert field in raised.value.message
    assert there.read_bytes() == before


def test_one_of_the_plan_is_kept_or_continued(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    assert not is_written(path, plan(), ALONE, SILENT)
    write(path, plan(), finish=False)
    assert not is_written(path, plan(), ALONE, SILENT)
    write(path, plan())
    assert is_written(path, plan(), ALONE, SILENT)


def test_one_that_was_begun_with_former_weights_is_begun_again(tmp_path: Path) -> None:
    """Training that fell back to an older checkpoint need not end with the same weights on a GPU."""
    path, said = tmp_path / "features.h5", io.StringIO()
    write(path, plan(weights="2", bias=1.0), finish=False)
    assert not is_written(path, plan(), ALONE, Progress(Console(file=said, soft_wrap=True)))
    assert said.getvalue() == f"warning: {path}.partial is of former weights of the model and begun again\n"
    write(path, plan(weights="2", bias=1.0))
    with pytest.raises(InputError, match=r"features.h5 is of other features .*backbone.sha256: 2 -> 1"):
        is_written(path, plan(), ALONE, SILENT)


def test_a_finished_one_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "features.h5", plan())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"features.h5"):
        is_written(path, plan(), ALONE, SILENT)


def test_what_was_begun_and_cannot_be_read_is_no_loss(tmp_path: Path) -> None:
    (tmp_path / "features.h5.partial").write_bytes(b"half")
    assert not is_written(tmp_path / "features.h5", plan(), ALONE, SILENT)


def test_a_shard_of_another_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    write(path, plan(row_order_seed=1), finish=False, shard=True)
    with pytest.raises(InputError, match=r"row_order_seed: 1 -> 0") as raised:
        is_written(path, plan(), ALONE, SILENT, shard=True)
    assert str(shard_path(path, 0)) in raised.value.message
    write(tmp_path / "other.h5", plan(), finish=False, shard=True)
    assert not is_written(tmp_path / "other.h5", plan(), ALONE, SILENT, shard=True)
