"""A tiny file of annotations in LVIS's format, for tests to break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Tree = dict[str, Any]
SQUARE = [2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]  # 4 x 3 pixels from (2, 1)


def tiny() -> Tree:
    """Two images of 10x8 (width x height), one of them empty; categories 7 and 3, in this order; three annotations."""
    return {
        "images": [
            {
                "id": 20,
                "width": 10,
                "height": 8,
                "coco_url": "http://images.cocodataset.org/train2017/000000000020.jpg",
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [7],
            },
            {
                "id": 10,
                "width": 10,
                "height": 8,
                "coco_url": "http://images.cocodataset.org/val2017/000000000010.jpg",
                "neg_category_ids": [3, 7],
                "not_exhaustive_category_ids": [],
            },
        ],
        "annotations": [
            {"id": 3, "image_id": 20, "category_id": 7, "bbox": [2, 1, 4, 3], "area": 12.0, "segmentation": [SQUARE]},
            {"id": 1, "image_id": 20, "category_id": 7, "bbox": [0, 0, 2, 2.5], "area": 5, "segmentation": [SQUARE]},
            {
                "id": 2,
                "image_id": 20,
                "category_id": 3,
                "bbox": [0, 0, 1, 8],
                "area": 8,
                "iscrowd": 1,
                "segmentation": {"size": [8, 10], "counts": [0, 8, 72]},
            },
        ],
        "categories": [
            {"id": 7, "name": "seven", "frequency": "c", "image_count": 11, "instance_count": 30},
            {"id": 3, "name": "three", "frequency": "r", "image_count": 1, "instance_count": 1},
        ],
    }


def as_coco(tree: Tree) -> Tree:
    """The same in COCO's format."""
    federated = ("neg_category_ids", "not_exhaustive_category_ids", "frequency", "image_count", "instance_count")

    def without(rows: list[Tree]) -> list[Tree]:
        return [{key: value for key, value in row.items() if key not in federated} for row in rows]

    return {**tree, "images": without(tree["images"]), "categories": without(tree["categories"])}


def write(path: Path, tree: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path
