"""Made annotations and results, and what the `lvis` package itself says of them."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TOLERANCE = 1e-9 * 100  # in points
NAMES = {
    "AP": "ap", "AP50": "ap50", "AP75": "ap75", "APs": "ap_s", "APm": "ap_m", "APl": "ap_l", "APr": "ap_r",
    "APc": "ap_c", "APf": "ap_f", "AR@300": "ar", "ARs@300": "ar_s", "ARm@300": "ar_m", "ARl@300": "ar_l",
}  # fmt: skip


def by_the_package(tree: dict[str, Any], results: list[dict[str, Any]], iou_type: str, folder: Path) -> dict[str, Any]:
    """Figures of the `lvis` package, through files as its own users give them, without anything of ours between."""
    path, results_path = folder / "truth.json", folder / "results.json"
    path.write_text(json.dumps(tree))
    results_path.write_text(json.dumps(results))
    root = logging.getLogger()
    handlers = list(root.handlers)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        import lvis

        root.handlers[:] = handlers
        patch.setattr(np, "float", float, raising=False)
        evaluation = lvis.LVISEval(str(path), str(results_path), iou_type)
        evaluation.run()
    figures = {name: _points(evaluation.results[key]) for key, name in NAMES.items()}
    precision = evaluation.eval["precision"][:, :, :, 0]
    figures["per_class"] = {
        id_: _points(precision[:, :, place].mean()) for place, id_ in enumerate(evaluation.params.cat_ids)
    }
    return figures


def _points(value: float) -> float | None:
    return None if value == -1 else 100 * float(value)


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    assert found["per_class"].keys() == expected["per_class"].keys()
    for name, value in _flat(expected).items():
        ours = _flat(found)[name]
        equal = ours is value if value is None or ours is None else abs(ours - value) <= TOLERANCE
        assert equal, f"{name}: {ours} instead of {value}"


def _flat(figures: dict[str, Any]) -> dict[Any, float | None]:
    return {**figures, "per_class": None, **figures["per_class"]}


def random_set(seed: int, iou_type: str = "bbox") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A few images and categories, with ties of scores and of IoUs, ignored objects and objects of no area."""
    stream = np.random.default_rng(seed)
    size, shapes = (48, 60), (4, 8, 20, 40)
    image_ids = stream.permutation(np.arange(1, 40))[: stream.integers(1, 7)].tolist()
    category_ids = stream.permutation(np.arange(1, 30))[: stream.integers(1, 5)].tolist()
    categories = [{"id": id_, "name": f"n{id_}", "frequency": str(stream.choice(list("rcf")))} for id_ in category_ids]
    images = []
    for id_ in image_ids:
        lists = [stream.choice(category_ids, stream.integers(0, 3)).tolist() for _ in range(2)]
        names = ("neg_category_ids", "not_exhaustive_category_ids")
        images.append({"id": id_, "height": size[0], "width": size[1], **dict(zip(names, lists, strict=True))})
    annotations = []
    for number in range(stream.integers(0, 25)):
        box = _box(stream, shapes, size)
        row = {"id": number + 1, "image_id": int(stream.choice(image_ids)), "bbox": box, "area": box[2] * box[3]}
        row |= {"category_id": int(stream.choice(category_ids)), "segmentation": _polygon(box)}
        if stream.random() < 0.15:
            row["ignore"] = 1
        if stream.random() < 0.1:
            row["area"] = float(stream.choice([0, 32**2, 96**2, 5000.5]))
        if stream.random() < 0.1:
            row["iscrowd"] = 1
        annotations.append(row)
    results = []
    for _ in range(stream.integers(1, 60)):
        copied = annotations and stream.random() < 0.7
        of = annotations[stream.integers(len(annotations))] if copied else None
        box = list(of["bbox"]) if of else _box(stream, shapes, size)
        if of and stream.random() < 0.7:
            box[stream.integers(2)] += int(stream.choice([-2, -1, 1, 2]))
        box = [max(box[0], 0), max(box[1], 0), *box[2:]]
        if stream.random() < 0.05:
            box[2] = 0
        row = {"image_id": of["image_id"] if of else int(stream.choice(image_ids))}
        row["category_id"] = of["category_id"] if of and stream.random() < 0.9 else int(stream.choice(category_ids))
        row["score"] = float(stream.choice([0.0, 0.25, 0.5, 0.75, stream.random()]))
        if iou_type == "bbox":
            row["bbox"] = box
        else:
            row["segmentation"] = to_rle(box, size)
        results.append(row)
    tree = {"images": images, "categories": categories, "annotations": annotations}
    return tree, results


def _box(stream: np.random.Generator, shapes: tuple[int, ...], size: tuple[int, int]) -> list[int]:
    width, height = (int(stream.choice(shapes)) for _ in range(2))
    return [int(stream.integers(0, size[1] - width)), int(stream.integers(0, size[0] - height)), width, height]


def _polygon(box: list[int]) -> list[list[float]]:
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def to_rle(box: list[float], size: tuple[int, int]) -> dict[str, Any]:
    """The mask of a box, as a result file has it."""
    from pycocotools import mask as coco

    pixels = np.zeros(size, dtype=np.uint8, order="F")
    x, y, width, height = (int(value) for value in box)
    pixels[y : y + height, x : x + width] = 1
    rle = coco.encode(pixels)
    return {"size": list(size), "counts": rle["counts"].decode()}


def noisy_results(tree: dict[str, Any], seed: int, iou_type: str, more: int = 0) -> list[dict[str, Any]]:
    """Every annotation up to three times, moved, of another size or category, among `more` of chance in some images."""
    from pycocotools import mask as coco

    stream = np.random.default_rng(seed)
    sizes = {image["id"]: (image["height"], image["width"]) for image in tree["images"]}
    categories = [category["id"] for category in tree["categories"]]
    results = []

    def add(image: int, category: int, box: np.ndarray, mask: Any) -> None:
        row: dict[str, Any] = {"image_id": image, "category_id": int(category)}
        row["score"] = round(float(stream.random()), int(stream.choice([1, 2, 6])))
        if iou_type == "bbox":
            row["bbox"] = [float(value) for value in box]
        else:
            rle = coco.encode(np.asfortranarray(mask))
            row["segmentation"] = {"size": list(sizes[image]), "counts": rle["counts"].decode()}
        results.append(row)

    for annotation in tree["annotations"]:
        if stream.random() < 0.1:
            continue
        image = annotation["image_id"]
        mask = None
        if iou_type == "segm":
            with warnings.catch_warnings():  # of pycocotools' decode, on how it makes an array
                warnings.simplefilter("ignore", DeprecationWarning)
                mask = coco.decode(coco.merge(coco.frPyObjects(annotation["segmentation"], *sizes[image])))
        for _ in range(stream.integers(1, 4)):
            box = np.array(annotation["bbox"])
            noise = stream.normal(0, 0.07, 4) * box[[2, 3, 2, 3]]
            moved = np.roll(mask, stream.integers(-3, 4, 2), (0, 1)) if mask is not None else None
            category = annotation["category_id"] if stream.random() < 0.8 else stream.choice(categories)
            add(image, category, np.abs(box + noise), moved)
    for image in list(sizes)[:12]:
        for _ in range(more):
            corner = stream.random(2) * sizes[image][::-1] * 0.7
            add(image, stream.choice(categories), np.concatenate([corner, stream.random(2) * 60 + 1]), None)
    return [copy.deepcopy(results[place]) for place in stream.permutation(len(results))]
