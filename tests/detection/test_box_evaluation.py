"""AP of boxes from RoIs: the figures of all detections, though only those that are evaluated are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gol_decouple.detection import prepare
from gol_decouple.detection.box_evaluation import box_ap, box_columns
from gol_decouple.detection.box_regression import BoxRegressor
from gol_decouple.detection.roi_boxes import ImageRois
from gol_decouple.detection.settings import DetectionSettings
from gol_decouple.errors import InputError
from tests.detection.made import random_set, same

STILL = BoxRegressor(torch.zeros(1, 4, 5), torch.zeros(1, 4))
SETTINGS = DetectionSettings()
Images = Callable[[], Iterator[ImageRois]]


def annotations(seed: int) -> dict[str, Any]:
    tree, _ = random_set(seed)
    return tree


def images_of(tree: dict[str, Any]) -> Images:
    """RoIs near every annotation, features telling its class (the last of 5 is of none)."""
    ids = sorted(category["id"] for category in tree["categories"])

    def images() -> Iterator[ImageRois]:
        stream = torch.Generator().manual_seed(0)
        for image in tree["images"]:
            own = [row for row in tree["annotations"] if row["image_id"] == image["id"]]
            boxes = torch.tensor([row["bbox"] for row in own], dtype=torch.float32).reshape(-1, 4).repeat(3, 1)
            boxes[:, 2:] += boxes[:, :2]
            boxes += torch.randn(boxes.shape, generator=stream)
            features = torch.rand(len(boxes), 5, generator=stream)
            features[range(len(boxes)), [ids.index(row["category_id"]) for row in own] * 3] += 0.7
            yield ImageRois(image["id"], (image["height"], image["width"]), features, boxes)

    return images


def scorers(tree: dict[str, Any]) -> list[Callable[[Tensor], Tensor]]:
    count = len(tree["categories"])
    return [lambda features: features[:, :count] / 2, lambda features: features[:, :count] ** 2 / 3]


def category_ids(tree: dict[str, Any]) -> np.ndarray:
    return np.array(sorted(category["id"] for category in tree["categories"]))


def test_ap_is_that_of_all_detections() -> None:
    kept = 0
    for seed in range(12):
        tree = annotations(seed)
        prepared, images, ids = prepare(tree), images_of(tree), category_ids(tree)
        columns = box_columns(images(), STILL, scorers(tree), ids, SETTINGS)
        found = box_ap(prepared, images(), STILL, scorers(tree), ids, SETTINGS)
        kept += len(columns[0]["scores"])
        for figures, one in zip(found, columns, strict=True):
            same(figures, prepared.evaluate(one))
        if len(tree["annotations"]) > 10:
            assert found[0]["ap"] > 10, "nothing found tests nothing"
    assert kept > 400


def test_columns_are_in_lvis_form() -> None:
    tree = annotations(3)
    images, ids = list(images_of(tree)()), category_ids(tree)
    columns = box_columns(images, STILL, scorers(tree), ids, SETTINGS)[0]
    assert columns["boxes"].dtype == columns["scores"].dtype == np.float32
    first = images[0]
    where = columns["image_id"] == first.image_id
    assert where.any()
    best = int(columns["scores"][where].argmax())
    place = int((scorers(tree)[0](first.features)).max(1).values.argmax())
    x1, y1, x2, y2 = (first.boxes[place].clamp(min=0)).tolist()
    x2, y2 = min(x2, first.size[1]), min(y2, first.size[0])
    np.testing.assert_allclose(columns["boxes"][where][best], [x1, y1, x2 - x1, y2 - y1], atol=1e-4)
    label = int(scorers(tree)[0](first.features)[place].argmax())
    assert columns["category_id"][where][best] == ids[label]


def test_only_what_is_evaluated_is_kept() -> None:
    """Category 2 is neither annotated nor negative in the image."""
    image = {"id": 5, "height": 90, "width": 90, "neg_category_ids": [], "not_exhaustive_category_ids": []}
    row = {"id": 1, "image_id": 5, "category_id": 1, "bbox": [0, 0, 20, 20], "area": 400}
    tree = {"images": [image], "annotations": [row], "categories": [{"id": id_, "name": str(id_)} for id_ in (1, 2)]}
    prepared, kept = prepare(tree), []
    evaluate = prepared.evaluate
    prepared.evaluate = lambda columns, **more: kept.append(columns) or evaluate(columns, **more)  # type: ignore[method-assign]
    rois = ImageRois(5, (90, 90), torch.zeros(1, 5), torch.tensor([[0.0, 0, 20, 20]]))
    both = [lambda features: torch.tensor([[0.5, 0.9]])]
    assert box_ap(prepared, [rois], STILL, both, np.array([1, 2]), SETTINGS)[0]["ap"] == pytest.approx(100)
    assert kept[0]["category_id"].tolist() == [1]
    assert box_columns([rois], STILL, both, np.array([1, 2]), SETTINGS)[0]["category_id"].tolist() == [2, 1]
    few = DetectionSettings(max_detections=1)
    assert box_ap(prepared, [rois], STILL, both, np.array([1, 2]), few)[0]["ap"] == 0, "the other has a higher score"


def test_images_are_read_one_after_another() -> None:
    tree = annotations(3)
    alive: list[int] = []

    def images() -> Iterator[ImageRois]:
        import weakref

        for rois in images_of(tree)():
            assert sum(reference() is not None for reference in references) <= 1
            references.append(weakref.ref(rois.features))
            alive.append(1)
            yield rois
            del rois

    references: list[Any] = []
    box_ap(prepare(tree), images(), STILL, scorers(tree), category_ids(tree), SETTINGS)
    assert len(alive) == len(tree["images"]) > 2


def test_no_images() -> None:
    tree = annotations(3)
    ids = category_ids(tree)
    assert box_ap(prepare(tree), [], STILL, scorers(tree), ids, SETTINGS)[1]["ap"] == 0
    columns = box_columns([], STILL, scorers(tree), ids, SETTINGS)[0]
    assert [columns[name].shape for name in columns] == [(0,), (0,), (0, 4), (0,)]


def test_classes_that_the_annotations_do_not_have_are_refused_before_any_image() -> None:
    tree = annotations(3)

    def unread() -> Iterator[ImageRois]:
        raise AssertionError
        yield

    with pytest.raises(InputError, match=r"1 of 2 classes .* annotations \(ids 99\)"):
        box_ap(prepare(tree), unread(), STILL, [], np.array([category_ids(tree)[0], 99]), SETTINGS)


def test_an_image_that_the_annotations_do_not_have_is_refused() -> None:
    tree = annotations(3)
    rois = ImageRois(999, (9, 9), torch.zeros(1, 5), torch.zeros(1, 4))
    with pytest.raises(InputError, match="no image 999"):
        box_ap(prepare(tree), [rois], STILL, scorers(tree), category_ids(tree), SETTINGS)
