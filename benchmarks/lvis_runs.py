"""Made LVIS sets, and one evaluation in a process of its own, without torch: python -m benchmarks.lvis_runs JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

CATEGORIES, SIZE = 1203, (480, 640)
DETECTIONS, MASK_DETECTIONS = 300, 100


def make_boxes(folder: Path, images: int, as_json: bool) -> None:
    """truth.json, columns.npz and, if asked for, results.json: 300 boxes an image.

    Of these, a tenth are near an annotation, and a quarter are of categories that are evaluated in the image.
    """
    stream = np.random.default_rng(0)
    tree, image_of, category_of, boxes_of = _truth(stream, images)
    (folder / "truth.json").write_text(json.dumps(tree), encoding="utf-8")
    image = np.repeat(np.arange(1, images + 1), DETECTIONS)
    category = stream.integers(1, CATEGORIES + 1, len(image))
    boxes = _boxes(stream, len(image))
    listed = np.flatnonzero(stream.random(len(image)) < 0.25)
    negatives = np.array([row["neg_category_ids"] for row in tree["images"]])
    category[listed] = negatives[image[listed] - 1, stream.integers(negatives.shape[1], size=len(listed))]
    starts = np.searchsorted(image_of, np.arange(1, images + 2))
    counts = np.diff(starts)
    near = np.flatnonzero((stream.random(len(image)) < 0.11) & (counts[image - 1] > 0))
    source = starts[image[near] - 1] + (stream.random(len(near)) * counts[image[near] - 1]).astype(int)
    category[near] = category_of[source]
    boxes[near] = np.abs(boxes_of[source] * (1 + stream.normal(0, 0.06, (len(near), 4))))
    scores = np.round(stream.random(len(image)), 6)
    boxes = np.round(boxes, 2)
    np.savez(folder / "columns.npz", image_id=image, category_id=category, boxes=boxes, scores=scores)
    if as_json:
        rows = zip(image.tolist(), category.tolist(), boxes.tolist(), scores.tolist(), strict=True)
        names = ("image_id", "category_id", "bbox", "score")
        with open(folder / "results.json", "w", encoding="utf-8") as file:
            for place, row in enumerate(rows):
                file.write(("," if place else "[") + json.dumps(dict(zip(names, row, strict=True))))
            file.write("]")


def make_masks(folder: Path, images: int) -> None:
    """truth.json with polygons and results.json with 100 masks an image, all of categories evaluated in it."""
    from pycocotools import mask as coco

    stream = np.random.default_rng(0)
    tree, image_of, category_of, boxes_of = _truth(stream, images)
    for row, box in zip(tree["annotations"], boxes_of, strict=True):
        row["segmentation"] = [_blob(stream, box)]
    (folder / "truth.json").write_text(json.dumps(tree), encoding="utf-8")
    results = []
    for image in range(1, images + 1):
        own = np.flatnonzero(image_of == image)
        for _ in range(MASK_DETECTIONS):
            place = stream.choice(own)
            box = boxes_of[place] * (1 + stream.normal(0, 0.1, 4))
            rle = coco.frPyObjects([_blob(stream, box)], *SIZE)[0]
            mask = {"size": list(SIZE), "counts": rle["counts"].decode()}
            row = {"image_id": image, "category_id": int(category_of[place]), "segmentation": mask}
            results.append(row | {"score": round(float(stream.random()), 6)})
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")


def evaluate(folder: str, given: str, evaluator: str, iou_type: str) -> dict[str, float]:
    """Seconds of one core from the files to the figures, peak memory of the process, and AP.

    Args:
        given: results.json, or columns.npz as a mapping of arrays.
    """
    from gol_decouple.detection import evaluate_lvis

    path = Path(folder) / given
    results: Any = str(path) if path.suffix == ".json" else dict(np.load(path))
    started = time.process_time()
    if evaluator == "lvis":
        ap = _package(str(Path(folder) / "truth.json"), results, iou_type)
    else:
        ap = evaluate_lvis(Path(folder) / "truth.json", results, iou_type)["ap"]
    seconds = time.process_time() - started
    return {"cpu_seconds": round(seconds, 2), "gibibytes": round(_peak(), 3), "ap": ap}


def _peak() -> float:
    """Of this process alone: what getrusage tells begins with the process that started it."""
    told = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(told.partition("VmHWM:")[2].split()[0]) / 2**20


def _package(truth: str, results: str, iou_type: str) -> float:
    """The `lvis` package as its users call it, made to work with this NumPy."""
    setattr(np, "float", float)  # noqa: B010
    import lvis

    evaluation = lvis.LVISEval(truth, results, iou_type)
    evaluation.run()
    return 100 * float(evaluation.results["AP"])


def _truth(stream: np.random.Generator, images: int) -> tuple[dict[str, Any], Any, Any, Any]:
    """Annotations by Zipf's law, about 12 an image, and the columns image, category and box of them."""
    chance = 1 / np.arange(1, CATEGORIES + 1)
    chance /= chance.sum()
    counts = stream.poisson(12, images) + 1
    image_of = np.repeat(np.arange(1, images + 1), counts)
    category_of = stream.choice(np.arange(1, CATEGORIES + 1), len(image_of), p=chance)
    boxes_of = np.round(_boxes(stream, len(image_of)), 2)
    columns = zip(image_of.tolist(), category_of.tolist(), boxes_of.tolist(), strict=True)
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
        for number, (image, category, box) in enumerate(columns, 1)
    ]
    listed = stream.integers(1, CATEGORIES + 1, (images, 12)).tolist()
    rows = [
        {"id": number, "height": SIZE[0], "width": SIZE[1], "neg_category_ids": ids[:10]}
        | {"not_exhaustive_category_ids": ids[10:]}
        for number, ids in enumerate(listed, 1)
    ]
    letters = np.where(chance > 1e-3, "f", np.where(chance > 2e-4, "c", "r")).tolist()
    categories = [{"id": id_, "name": str(id_), "frequency": letter} for id_, letter in enumerate(letters, 1)]
    return {"images": rows, "annotations": annotations, "categories": categories}, image_of, category_of, boxes_of


def _boxes(stream: np.random.Generator, number: int) -> Any:
    sides = np.exp(stream.uniform(np.log(8), np.log(300), (number, 2)))
    corner = stream.random((number, 2)) * (np.array(SIZE[::-1]) - sides)
    return np.concatenate([corner, sides], axis=1)


def _blob(stream: np.random.Generator, box: Any) -> list[float]:
    """A polygon of 24 points, an uneven ellipse."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = 0.5 * stream.uniform(0.8, 1, 24)
    x = box[0] + box[2] * (0.5 + radius * np.cos(angles))
    y = box[1] + box[3] * (0.5 + radius * np.sin(angles))
    return [round(float(value), 2) for value in np.stack([x, y], 1).clip(0).ravel()]


if __name__ == "__main__":
    print(json.dumps(evaluate(**json.loads(sys.argv[1]))))
