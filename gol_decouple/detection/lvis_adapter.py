"""The `lvis` package as the reference evaluator: slow, made for an older NumPy, and what papers were measured with."""

from __future__ import annotations

import logging
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gol_decouple.data.lvis_json import load
from gol_decouple.data.lvis_records import positions
from gol_decouple.data.masks import to_rle
from gol_decouple.detection.accumulation import Curves, summarize
from gol_decouple.detection.detections import Results
from gol_decouple.detection.ground_truth import GroundTruth, IouType
from gol_decouple.detection.json_parts import read_parts
from gol_decouple.errors import EnvironmentFailure

_INSTALL = (
    "pip install lvis; where libGL or another system library is missing, opencv-python-headless does in place of "
    "opencv-python. The columnar evaluator needs neither"
)


class _Numpy:
    """NumPy with the alias that lvis 0.5.3 uses, for its one function that does."""

    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def evaluate_with_lvis(
    source: str | Path | Mapping[str, Any],
    results: Results,
    truth: GroundTruth,
    iou_type: IouType,
    most: int,
    of_category: bool,
) -> dict[str, Any]:
    """The figures of `evaluate_lvis` by the `lvis` package.

    Args:
        source, results: what was given, already found to be proper.
        truth: the same as `source`.
        most: how many detections are kept of each image, or category.

    Raises:
        EnvironmentFailure: the package cannot be imported.
    """
    lvis = _import_lvis()
    tree, _ = load(Path(source) if isinstance(source, str) else source, masks=iou_type == "segm")
    annotations = lvis.LVIS.__new__(lvis.LVIS)
    annotations.logger = logging.getLogger(__name__)
    annotations.dataset = _dataset(tree, set(truth.image_ids.tolist()))
    annotations._create_index()
    found = _objects(results, truth)
    if of_category:
        found, most = _highest(found, most), -1
    with _quiet():
        evaluation = _evaluation_class(lvis.LVISEval)(annotations, lvis.LVISResults(annotations, found, most), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
    # [thresholds, recalls, categories, areas], -1 where undefined; ours begins with categories and ends with recalls.
    precision, recall = evaluation.eval["precision"].transpose(2, 0, 3, 1), evaluation.eval["recall"].transpose(1, 0, 2)
    precision[precision < 0], recall[recall < 0] = np.nan, np.nan
    return summarize(Curves(precision, recall), truth)


def _import_lvis() -> Any:
    """The package; what its import does to the root logger is undone."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import lvis
            import lvis.eval
    except ImportError as error:
        raise EnvironmentFailure(f"the lvis package cannot be imported: {error}", _INSTALL) from None
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return lvis


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the package's warning that results given as objects are not checked, and Python's on how it warns."""
    logger = logging.getLogger("lvis.results")
    silent = logging.Filter("nothing")
    logger.addFilter(silent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.removeFilter(silent)


def _evaluation_class(original: Any) -> Any:
    """The package's class, with an `accumulate` that sees `_Numpy`; the package itself stays as it is."""
    method = original.accumulate
    seen = method.__globals__ | {"np": _Numpy()}
    return type("NumPy2LVISEval", (original,), {"accumulate": types.FunctionType(method.__code__, seen, "accumulate")})


def _dataset(tree: Mapping[str, Any], image_ids: set[int]) -> dict[str, Any]:
    """Annotations for the package, which writes into them, takes the id 0 for none, and lets no field be missing."""
    return {
        "images": [
            {"not_exhaustive_category_ids": [], **image} for image in tree["images"] if image["id"] in image_ids
        ],
        "annotations": [
            {"area": row["bbox"][2] * row["bbox"][3], **row, "id": number}
            for number, row in enumerate(tree["annotations"], 1)
            if row["image_id"] in image_ids
        ],
        "categories": [{"frequency": "f", **category} for category in tree["categories"]],
    }


def _objects(results: Results, truth: GroundTruth) -> list[dict[str, Any]]:
    """Results for the package, which writes into them, and fails if there are none or if polygons have no box."""
    if isinstance(results, Mapping):
        columns = (np.asarray(results[name]).tolist() for name in ("image_id", "category_id", "boxes", "scores"))
        names = ("image_id", "category_id", "bbox", "score")
        found = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    elif isinstance(results, str | Path):
        found = [row for part in read_parts(results) for row in part]
    else:
        found = [dict(row) for row in results]
    if truth.masks is not None:
        places = positions(truth.image_ids, np.array([row["image_id"] for row in found], dtype=np.int64))
        for row, size in zip(found, truth.sizes[places].tolist(), strict=True):
            row["segmentation"] = to_rle(row["segmentation"], *size)
    nothing = {"image_id": int(truth.image_ids[0]), "category_id": int(truth.category_ids[0])}
    # A box of no area is left out by the package itself.
    return found or [nothing | {"bbox": [0, 0, 0, 0], "segmentation": [[0, 0, 0, 0, 0, 0]], "score": 0.0}]


def _highest(found: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """So many highest scores of every category."""
    by_category: dict[int, list[dict[str, Any]]] = {}
    for row in found:
        by_category.setdefault(row["category_id"], []).append(row)
    return [
        row for rows in by_category.values() for row in sorted(rows, key=lambda row: row["score"], reverse=True)[:most]
    ]
