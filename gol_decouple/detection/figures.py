"""What a manifest says of detections: the one form that stages write and the report reads. NumPy only.

`manifest["detection"]` is the object that `manifest_of` makes; the AP of every class lies beside it, in `CLASS_AP`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gol_decouple.data.lvis_records import positions
from gol_decouple.detection.ground_truth import Floats, GroundTruth, Ints
from gol_decouple.detection.settings import DetectionSettings
from gol_decouple.files import write_text
from gol_decouple.reported_ap import CLASS_AP, FREQUENCIES, REPORTED
from gol_decouple.runs import WEIGHT_NORM

__all__ = ["CLASS_AP", "REPORTED", "manifest_of", "save_class_ap"]

Figures = Mapping[str, Any]


def manifest_of(
    truth: GroundTruth, settings: DetectionSettings, boxes: Figures, masks: Figures | None
) -> dict[str, Any]:
    """What a manifest says of the detections of one classifier.

    Args:
        truth: annotations that they were evaluated with.
        settings: that they were found with.
        boxes: figures of `evaluate_lvis` for bbox.
        masks: the same for segm; None where boxes alone were evaluated.

    Returns:
        settings (`DetectionSettings` as an object); annotations, the name of the file, and images, how many it has;
        num_r, num_c and num_f, its rare, common and frequent classes (None if it does not say); boxes and masks, all
        figures but `per_class`, in points.
    """
    letters = truth.frequencies
    numbers = {f"num_{name}": None if letters is None else int((letters == name).sum()) for name in FREQUENCIES}
    return {
        "settings": asdict(settings),
        "annotations": Path(truth.name).name,
        "images": len(truth.image_ids),
        **numbers,
        "boxes": _summary(boxes),
        "masks": None if masks is None else _summary(masks),
    }


def save_class_ap(
    folder: Path,
    truth: GroundTruth,
    category_ids: Ints,
    boxes: Figures,
    masks: Figures | None,
    norms: Floats | None = None,
) -> None:
    """Write `per_class_ap.csv` into `folder`: the AP of every class in points; empty where nothing defines it.

    Args:
        category_ids: [C], of the labels.
        norms: of each class's weight, [C]; None: there is no single classifier.

    Its columns are class (the label), category_id, name, frequency, ap (of masks), ap_box and weight_norm.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("class", "category_id", "name", "frequency", "ap", "ap_box", WEIGHT_NORM))
    letters = truth.frequencies
    places = positions(truth.category_ids, category_ids).tolist()
    for label, (category_id, place) in enumerate(zip(category_ids.tolist(), places, strict=True)):
        points = [None if figures is None else figures["per_class"][category_id] for figures in (masks, boxes)]
        row = (truth.category_names[place], "" if letters is None else letters[place])
        told = ["" if value is None else f"{value:.4f}" for value in points]
        table.writerow((label, category_id, *row, *told, "" if norms is None else f"{norms[label]:.6g}"))
    write_text(folder / CLASS_AP, text.getvalue())


def _summary(figures: Figures) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != "per_class"}
