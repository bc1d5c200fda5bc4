"""A Mask R-CNN with another classifier: with its own, what the model itself finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from annotated import narrow_backbone
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from gol_decouple.backbones import mask_rcnn
from gol_decouple.backbones.conventions import of_model
from gol_decouple.backbones.mask_rcnn import build_detector
from gol_decouple.data.masks import mask_of
from gol_decouple.detection import prepare, whole_detector
from gol_decouple.detection.settings import DetectionSettings
from gol_decouple.detection.whole_detector import detector_ap, detector_results, regressor_of
from gol_decouple.detector_settings import ConventionsConfig, DetectorConfig
from gol_decouple.errors import InputError
from gol_decouple.settings import TransformConfig

CLASSES = 5
CATEGORY_IDS = np.array([2, 3, 5, 7, 11])
SETTINGS = DetectionSettings(score_threshold=0.05, nms_threshold=0.4, max_detections=20)


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    """Untrained, with scores and boxes that differ from each other."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
        model = MaskRCNN(
            *(backbone, CLASSES + 1),
            min_size=64,
            max_size=96,
            box_score_thresh=SETTINGS.score_threshold,
            box_nms_thresh=SETTINGS.nms_threshold,
            box_detections_per_img=SETTINGS.max_detections,
            rpn_post_nms_top_n_test=60,
        )
        for layer in (model.roi_heads.box_predictor.cls_score, model.roi_heads.box_predictor.bbox_pred):
            torch.nn.init.normal_(layer.weight, std=0.3)
            torch.nn.init.normal_(layer.bias, std=0.5)
        torch.nn.init.normal_(model.roi_heads.mask_predictor.mask_fcn_logits.weight, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def images() -> dict[int, Tensor]:
    """Of several sizes, so that the model resizes each by another factor."""
    stream = torch.Generator().manual_seed(0)
    return {id_: torch.rand(3, *size, generator=stream) for id_, size in ((4, (50, 70)), (9, (80, 40)), (6, (33, 64)))}


def own_scorer(model: MaskRCNN) -> Callable[[Tensor], Tensor]:
    """The model's classifier as ours, background last and left out."""
    layer = model.roi_heads.box_predictor.cls_score

    def scores(features: Tensor) -> Tensor:
        return torch.nn.functional.linear(features, layer.weight.roll(-1, 0), layer.bias.roll(-1, 0)).softmax(1)[:, :-1]

    return scores


@torch.inference_mode()
def by_torchvision(model: MaskRCNN, image: Tensor) -> dict[str, np.ndarray]:
    return {name: found.numpy() for name, found in model([image])[0].items()}


def test_with_its_own_classifier_it_is_the_model(model: MaskRCNN, images: dict[int, Tensor]) -> None:
    found = list(detector_results(model, images.items(), [own_scorer(model)], CATEGORY_IDS, SETTINGS))
    assert len(found) == len(images)
    for (image_id, image), (rows,) in zip(images.items(), found, strict=True):
        expected = by_torchvision(model, image)
        assert len(rows) == len(expected["labels"]) > whole_detector._MASKS_AT_ONCE
        assert {row["image_id"] for row in rows} == {image_id}
        assert [row["category_id"] for row in rows] == CATEGORY_IDS[expected["labels"] - 1].tolist()
        np.testing.assert_allclose([row["score"] for row in rows], expected["scores"], rtol=1e-5)
        boxes = np.array([row["bbox"] for row in rows])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, expected["boxes"], atol=1e-3)
        masks = np.stack([mask_of(row["segmentation"], *image.shape[1:], 0) for row in rows])
        assert masks.shape == (len(rows), *image.shape[1:])
        assert 0.01 < masks.mean() < 0.9
        assert (masks != (expected["masks"][:, 0] > 0.5)).mean() < 1e-4, "but for rounding"


def test_several_classifiers_share_a_pass(model: MaskRCNN, images: dict[int, Tensor]) -> None:
    own = own_scorer(model)
    scorers = [own, lambda features: own(features).flip(1)]
    alone = [next(detector_results(model, [(4, images[4])], [scorer], CATEGORY_IDS, SETTINGS))[0] for scorer in scorers]
    passes = []
    handle = model.backbone.register_forward_hook(lambda *_: passes.append(1))
    together = next(detector_results(model, [(4, images[4])], scorers, CATEGORY_IDS, SETTINGS))
    handle.remove()
    assert together == alone
    assert alone[0] != alone[1]
    assert len(passes) == 1


def test_no_detection(model: MaskRCNN, images: dict[int, Tensor]) -> None:
    nothing = [lambda features: torch.zeros(len(features), CLASSES)]
    assert list(detector_results(model, images.items(), nothing, CATEGORY_IDS, SETTINGS)) == [[[]]] * 3


@pytest.fixture(scope="module")
def tree(model: MaskRCNN, images: dict[int, Tensor]) -> dict[str, Any]:
    """Some of what the model finds, as the truth; category 11 is not evaluated in any image."""
    found = detector_results(model, images.items(), [own_scorer(model)], CATEGORY_IDS, SETTINGS)
    rows = [row for results in found for row in results[0] if row["category_id"] != 11]
    truths = [
        {"id": number, **row, "area": float(row["bbox"][2] * row["bbox"][3])}
        for number, row in enumerate(rows, 1)
        if number % 3
    ]
    image_rows = [
        {"id": id_, "height": image.shape[1], "width": image.shape[2]}
        | {"neg_category_ids": [2], "not_exhaustive_category_ids": []}
        for id_, image in images.items()
    ]
    categories = [{"id": int(id_), "name": str(id_), "frequency": "f"} for id_ in CATEGORY_IDS]
    return {"images": image_rows, "annotations": truths, "categories": categories}


def test_ap_is_that_of_all_results(model: MaskRCNN, images: dict[int, Tensor], tree: dict[str, Any]) -> None:
    boxes, masks = prepare(tree), prepare(tree, "segm")
    scorers = [own_scorer(model), lambda features: own_scorer(model)(features) ** 2]
    found = detector_ap(boxes, masks, model, images.items(), scorers, CATEGORY_IDS, SETTINGS)
    assert len(found) == 2
    everything = list(detector_results(model, images.items(), scorers, CATEGORY_IDS, SETTINGS))
    for place, (box_figures, mask_figures) in enumerate(found):
        rows = [row for results in everything for row in results[place]]
        assert box_figures == boxes.evaluate(rows)
        assert mask_figures == masks.evaluate(rows)
        assert 20 < mask_figures["ap"] < 100


def test_masks_are_made_of_what_is_evaluated(
    model: MaskRCNN, images: dict[int, Tensor], tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    masks = whole_detector.DetectorImage.masks

    def counting(self: whole_detector.DetectorImage, found: Any) -> list[Any]:
        made.extend(found.labels.tolist())
        return masks(self, found)

    monkeypatch.setattr(whole_detector.DetectorImage, "masks", counting)
    images = {9: images[9]}
    detector_ap(
        *(prepare(tree), prepare(tree, "segm")), model, images.items(), [own_scorer(model)], CATEGORY_IDS, SETTINGS
    )
    assert made
    assert 4 not in made


def test_a_training_model_is_put_into_evaluation_mode(model: MaskRCNN, images: dict[int, Tensor]) -> None:
    one = [(9, images[9])]
    expected = list(detector_results(model, one, [own_scorer(model)], CATEGORY_IDS, SETTINGS))
    model.train()
    assert list(detector_results(model, one, [own_scorer(model)], CATEGORY_IDS, SETTINGS)) == expected
    assert not model.training


def test_other_classes_are_refused_before_any_image(
    model: MaskRCNN, images: dict[int, Tensor], tree: dict[str, Any]
) -> None:
    def unread() -> Iterator[tuple[int, Tensor]]:
        raise AssertionError
        yield

    with pytest.raises(InputError, match=r"1 of 2 classes .*ids 99"):
        detector_ap(prepare(tree), prepare(tree, "segm"), model, unread(), [], np.array([2, 99]), SETTINGS)
    fewer = [lambda features: torch.rand(len(features), 3)]
    with pytest.raises(InputError, match="for 5 classes"):
        list(detector_results(model, images.items(), fewer, CATEGORY_IDS[:3], SETTINGS))


@pytest.fixture(params=["torchvision", "detectron2", "mmdetection"])
def built(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MaskRCNN:
    """By the conventions of a framework, with one box for all classes."""
    monkeypatch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_backbone)
    settings = DetectorConfig(
        conventions=ConventionsConfig(framework=request.param),
        **{"min_size": 64, "max_size": 96, "train_min_sizes": (64,), "proposals": 60},
        **{"score_threshold": SETTINGS.score_threshold, "nms": SETTINGS.nms_threshold, "max_detections": 20},
    )
    built = build_detector("torchvision:resnet18", CLASSES, 0, settings, TransformConfig(), False, class_agnostic=True)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        built.roi_heads.box_predictor.cls_score.weight.normal_(std=0.5)
        built.roi_heads.box_predictor.bbox_pred.weight.normal_(std=0.05)
        built.roi_heads.box_predictor.bbox_pred.bias.copy_(torch.tensor([0.0, 0.0, 5.0, 5.0]))  # of some pixels
        built.roi_heads.mask_predictor.mask_fcn_logits.weight.normal_(std=0.3)
    return built.eval()


def test_by_any_conventions_it_is_the_model(built: MaskRCNN, images: dict[int, Tensor]) -> None:
    for (image_id, image), (rows,) in zip(
        images.items(),
        detector_results(built, images.items(), [own_scorer(built)], CATEGORY_IDS, SETTINGS),
        strict=True,
    ):
        expected = by_torchvision(built, image)
        assert len(rows) == len(expected["labels"]) > 3, image_id
        assert [row["category_id"] for row in rows] == CATEGORY_IDS[expected["labels"] - 1].tolist()
        boxes = np.array([row["bbox"] for row in rows])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, expected["boxes"], atol=1e-3)
        masks = np.stack([mask_of(row["segmentation"], *image.shape[1:], 0) for row in rows])
        assert 0.005 < masks.mean() < 0.9
        assert (masks != (expected["masks"][:, 0] >= 0.5)).mean() < 1e-4, "but for rounding"


def test_a_probability_of_a_half_is_mask_but_not_by_torchvision(built: MaskRCNN, images: dict[int, Tensor]) -> None:
    with torch.no_grad():
        built.roi_heads.mask_predictor.mask_fcn_logits.weight.zero_()
        built.roi_heads.mask_predictor.mask_fcn_logits.bias.zero_()
    ((rows,),) = detector_results(built, [(4, images[4])], [own_scorer(built)], CATEGORY_IDS, SETTINGS)
    covered = sum(int(mask_of(row["segmentation"], *images[4].shape[1:], 0).sum()) for row in rows)
    assert (covered > 0) == (of_model(built).framework != "torchvision")


def test_the_bound_of_a_regressor_is_that_of_its_framework(built: MaskRCNN) -> None:
    regressor = regressor_of(built)
    assert regressor.weight.shape == (1, 4, 1024)
    assert np.isfinite(regressor.least_growth) == (of_model(built).framework == "mmdetection")
