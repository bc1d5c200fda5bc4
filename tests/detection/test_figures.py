"""What a manifest says of detections, and the file with every class."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from gol_decouple.detection import prepare
from gol_decouple.detection.figures import CLASS_AP, REPORTED, manifest_of, save_class_ap
from gol_decouple.detection.settings import DetectionSettings

SQUARE = [0.0, 0, 20, 0, 20, 20, 0, 20]
TREE: dict[str, Any] = {
    "images": [{"id": 5, "height": 90, "width": 90, "neg_category_ids": [], "not_exhaustive_category_ids": []}],
    "annotations": [
        {"id": id_, "image_id": 5, "category_id": id_, "bbox": [0, 0, 20, 20], "area": 400, "segmentation": [SQUARE]}
        for id_ in (3, 9)
    ],
    "categories": [
        {"id": 9, "name": "nine", "frequency": "f"},
        {"id": 3, "name": "three, or more", "frequency": "r"},
        {"id": 4, "name": "four", "frequency": "c"},
    ],
}
FOUND = [{"image_id": 5, "category_id": 3, "bbox": [0, 0, 20, 20], "score": 0.5, "segmentation": [SQUARE]}]
SETTINGS = DetectionSettings(nms_threshold=0.3)


def evaluated() -> tuple[Any, dict[str, Any], dict[str, Any]]:
    boxes, masks = prepare(TREE), prepare(TREE, "segm")
    return boxes.truth, boxes.evaluate(FOUND), masks.evaluate([])


def test_the_manifests_object() -> None:
    annotations, boxes, masks = evaluated()
    told = json.loads(json.dumps(manifest_of(annotations, SETTINGS, boxes, masks), allow_nan=False))
    assert told["settings"] == {"score_threshold": 1e-4, "nms_threshold": 0.3, "max_detections": 300}
    assert [told[name] for name in ("annotations", "images", "num_r", "num_c", "num_f")] == ["annotations", 1, 1, 1, 1]
    assert [round(told["boxes"][name], 6) for name in ("ap", "ap_r", "ap_f")] == [50, 100, 0]
    assert told["masks"]["ap"] == 0
    for part in ("boxes", "masks"):
        assert set(REPORTED) < set(told[part])
        assert "per_class" not in told[part]
        assert told[part]["ap_c"] is None
    assert manifest_of(annotations, SETTINGS, boxes, None)["masks"] is None


def test_a_file_is_called_by_its_name_and_may_say_nothing_of_frequencies(tmp_path: Path) -> None:
    categories = [{"id": 3, "name": "three"}, {"id": 9, "name": "nine"}]
    path = tmp_path / "val.json"
    path.write_text(json.dumps(TREE | {"categories": categories}))
    prepared = prepare(path)
    told = manifest_of(prepared.truth, SETTINGS, prepared.evaluate([]), None)
    assert told["annotations"] == "val.json"
    assert told["num_r"] is told["boxes"]["ap_r"] is None
    save_class_ap(tmp_path, prepared.truth, prepared.truth.category_ids, prepared.evaluate([]), None)
    assert (tmp_path / CLASS_AP).read_text().splitlines()[1] == "0,3,three,,,0.0000,"


def test_every_class_is_in_the_file(tmp_path: Path) -> None:
    annotations, boxes, masks = evaluated()
    save_class_ap(tmp_path, annotations, annotations.category_ids, boxes, masks)
    rows = list(csv.DictReader((tmp_path / CLASS_AP).read_text().splitlines()))
    assert [(row["class"], row["category_id"], row["name"], row["frequency"]) for row in rows] == [
        ("0", "3", "three, or more", "r"),
        ("1", "4", "four", "c"),
        ("2", "9", "nine", "f"),
    ]
    assert [(row["ap"], row["ap_box"]) for row in rows] == [("0.0000", "100.0000"), ("", ""), ("0.0000", "0.0000")]


def test_classes_are_in_the_order_of_labels(tmp_path: Path) -> None:
    annotations, boxes, _ = evaluated()
    save_class_ap(tmp_path, annotations, np.array([9, 3]), boxes, None)
    lines = (tmp_path / CLASS_AP).read_text().splitlines()
    assert lines[1:] == ["0,9,nine,f,,0.0000,", '1,3,"three, or more",r,,100.0000,']
    save_class_ap(tmp_path, annotations, np.array([9, 3]), boxes, None, np.array([1.0 / 3.0, 2.0]))
    lines = (tmp_path / CLASS_AP).read_text().splitlines()
    assert lines[0].endswith("ap,ap_box,weight_norm")
    assert lines[1:] == ["0,9,nine,f,,0.0000,0.333333", '1,3,"three, or more",r,,100.0000,2']
