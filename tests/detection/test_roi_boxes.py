"""Box detections from RoI features beside torchvision's own postprocessing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads

from gol_decouple.detection import roi_boxes
from gol_decouple.detection.box_regression import BoxRegressor, DecodedBoxes
from gol_decouple.detection.roi_boxes import ImageBoxes, ImageRois, detect_boxes
from gol_decouple.detection.settings import DetectionSettings
from gol_decouple.errors import InputError

SIZE = (90, 120)
SETTINGS = DetectionSettings(max_detections=25)


@dataclass(frozen=True)
class Made:
    """RoIs around a few objects, a Softmax classifier with the background last, and a box regressor."""

    rois: ImageRois
    weight: Tensor
    regressor: BoxRegressor
    decimals: int | None = None

    def scores(self, features: Tensor) -> Tensor:
        found = (features @ self.weight.T).softmax(1)[:, :-1]
        return found if self.decimals is None else found.round(decimals=self.decimals)


def made(seed: int, classes: int = 6, num_rois: int = 60, groups: int | None = None, scale: float = 0.3) -> Made:
    stream = torch.Generator().manual_seed(seed)
    objects = torch.rand(8, 4, generator=stream)
    of = objects[torch.randint(8, (num_rois,), generator=stream)]
    centres = of[:, :2] * torch.tensor(SIZE[::-1]) + torch.randn(num_rois, 2, generator=stream) * 5
    sides = 5 + of[:, 2:] * 50
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    boxes[:, 0::2].clamp_(0, SIZE[1])
    boxes[:, 1::2].clamp_(0, SIZE[0])
    features = torch.randn(num_rois, 16, generator=stream)
    layer = torch.randn(groups or classes, 4, 17, generator=stream) * scale
    regressor = BoxRegressor(layer[:, :, :16], layer[:, :, 16])
    weight = torch.randn(classes + 1, 16, generator=stream) * 0.5
    return Made(ImageRois(7, SIZE, features, boxes), weight, regressor)


def by_torchvision(case: Made, settings: DetectionSettings, logits: Tensor | None = None) -> ImageBoxes:
    """`postprocess_detections` of the same scores, or of logits [R, 1 + C]; it has the background first."""
    heads = RoIHeads(
        *(None, None, None, 0.5, 0.5, 512, 0.25, case.regressor.coder_weights),
        settings.score_threshold,
        settings.nms_threshold,
        settings.max_detections,
    )
    scores = case.scores(case.rois.features)
    classes = scores.shape[1]
    weight, bias = (part.expand(classes, *part.shape[1:]) for part in (case.regressor.weight, case.regressor.bias))
    deltas = (torch.einsum("rd,ckd->rck", case.rois.features, weight) + bias).flatten(1)
    deltas = torch.cat([torch.full((len(deltas), 4), 9.0), deltas], dim=1)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        if logits is None:
            logits = torch.cat([torch.ones(len(scores), 1), scores], dim=1)
            patch.setattr(torch.nn.functional, "softmax", lambda scores, dim: scores)
        boxes, found, labels = heads.postprocess_detections(logits, deltas, [case.rois.boxes], [SIZE])
    return ImageBoxes(boxes[0].numpy(), labels[0].numpy() - 1, found[0].numpy())


def same(found: ImageBoxes, expected: ImageBoxes, pixels: float = 1e-3) -> None:
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=pixels)


def ours(case: Made, settings: DetectionSettings = SETTINGS) -> ImageBoxes:
    return detect_boxes(case.rois, case.regressor, [case.scores], settings)[0]


@pytest.fixture(params=[512, 20], ids=["one part", "many parts"], autouse=True)
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few boxes are sorted and decoded at once, so that the first part is not enough."""
    monkeypatch.setattr(roi_boxes, "_DECODED_AT_ONCE", request.param)
    if request.param == 20:
        monkeypatch.setattr(roi_boxes, "_SORTED_AT_ONCE", 30)


@pytest.mark.parametrize("groups", [None, 1], ids=["a box a class", "one box"])
@pytest.mark.parametrize("nms_threshold", [0.3, 0.5])
def test_detections_are_torchvisions(groups: int | None, nms_threshold: float) -> None:
    for seed in range(10):
        case, settings = made(seed, groups=groups), replace(SETTINGS, nms_threshold=nms_threshold)
        expected = by_torchvision(case, settings)
        assert len(expected.labels) == 25
        same(ours(case, settings), expected)


def test_thousands_of_boxes() -> None:
    """So many that torchvision takes the classes one by one, rather than side by side in one plane."""
    case = made(0, classes=40, num_rois=80)
    settings = DetectionSettings(max_detections=300)
    assert int((case.scores(case.rois.features) > settings.score_threshold).sum()) > 2000
    same(ours(case, settings), by_torchvision(case, settings))


@pytest.mark.parametrize("most", [100, 100_000])
def test_more_detections_than_there_are(most: int) -> None:
    settings = DetectionSettings(score_threshold=0.15, max_detections=most)
    for seed in range(4):
        expected = by_torchvision(made(seed), settings)
        assert 10 < len(expected.labels) < 100
        same(ours(made(seed), settings), expected)


def test_growth_is_bounded() -> None:
    """exp of these would be infinite, and the boxes no numbers."""
    case = made(0, scale=40)
    expected = by_torchvision(case, SETTINGS)
    assert (expected.boxes[:, 2:] - expected.boxes[:, :2] == torch.tensor(SIZE[::-1]).numpy()).all(1).any()
    same(ours(case), expected, pixels=0.02)  # 100,000 pixels wide before they are clipped


def test_boxes_without_a_side_are_none() -> None:
    case = made(0)
    case.rois.boxes[::2, 2] = case.rois.boxes[::2, 0]
    case.rois.boxes[1::4] += 1000  # outside
    expected = by_torchvision(case, DetectionSettings(max_detections=1000))
    assert len(expected.labels) < len(ours(made(0), DetectionSettings(max_detections=1000)).labels)
    same(ours(case, DetectionSettings(max_detections=1000)), expected)


def test_equal_scores_are_in_the_order_of_rois_and_classes() -> None:
    for seed in range(6):
        case = replace(made(seed), decimals=1)
        found = ours(case)
        assert len(np.unique(found.scores)) < 8
        same(found, by_torchvision(case, SETTINGS))


def test_softmax_with_the_background_last() -> None:
    """The same model as torchvision has it, logits and all."""
    case = made(3)
    logits = case.rois.features @ torch.cat([case.weight[-1:], case.weight[:-1]]).T
    same(ours(case), by_torchvision(case, SETTINGS, logits))


def test_equal_scores_of_all() -> None:
    case = made(0, classes=3)
    boxes = detect_boxes(case.rois, case.regressor, [lambda features: torch.full((60, 3), 0.5)], SETTINGS)[0]
    assert boxes.labels[:3].tolist() == [0, 1, 2], "of the first RoI"
    assert len(boxes.labels) == 25


def test_none_is_over_the_threshold() -> None:
    found = ours(made(0), replace(SETTINGS, score_threshold=0.999))
    assert (found.boxes.shape, found.labels.shape, found.scores.shape) == ((0, 4), (0,), (0,))


def test_no_rois() -> None:
    case = made(0)
    empty = replace(case, rois=ImageRois(1, SIZE, torch.zeros(0, 16), torch.zeros(0, 4)))
    assert ours(empty).boxes.shape == (0, 4)


def test_a_score_that_is_no_number_is_no_detection() -> None:
    case = made(0)

    def broken(features: Tensor) -> Tensor:
        scores = case.scores(features)
        scores[5:] = torch.nan
        return scores

    found = detect_boxes(case.rois, case.regressor, [broken], SETTINGS)[0]
    first = ImageRois(7, SIZE, case.rois.features[:5], case.rois.boxes[:5])
    same(found, ours(replace(case, rois=first)))


def test_classifiers_together_are_as_alone() -> None:
    case, other = made(0), made(1)
    together = detect_boxes(case.rois, case.regressor, [case.scores, other.scores, case.scores], SETTINGS)
    alone = [detect_boxes(case.rois, case.regressor, [scorer], SETTINGS)[0] for scorer in (case.scores, other.scores)]
    for found, expected in zip(together, [*alone, alone[0]], strict=True):
        for name in ("boxes", "labels", "scores"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_few_boxes_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And none twice, whichever classifier asks."""
    from gol_decouple.detection import box_regression

    decode, asked = box_regression.DecodedBoxes._decode, []

    def counting(self: box_regression.DecodedBoxes, rows: Tensor, groups: Tensor) -> Tensor:
        asked.extend((rows * 6 + groups).tolist())
        return decode(self, rows, groups)

    monkeypatch.setattr(box_regression.DecodedBoxes, "_decode", counting)
    monkeypatch.setattr(roi_boxes, "_DECODED_AT_ONCE", 20)
    case = made(0)
    detect_boxes(case.rois, case.regressor, [case.scores, case.scores], replace(SETTINGS, max_detections=5))
    assert len(asked) == len(set(asked)) == 20


@pytest.mark.parametrize(
    ("regressor", "message"),
    [
        (BoxRegressor(torch.zeros(5, 4, 16), torch.zeros(5, 4)), "for 5 classes and features of size 16"),
        (BoxRegressor(torch.zeros(6, 4, 8), torch.zeros(6, 4)), "for 6 classes and features of size 8"),
    ],
)
def test_a_regressor_of_another_model_is_refused(regressor: BoxRegressor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ours(replace(made(0), regressor=regressor))


def test_a_malformed_regressor_is_refused() -> None:
    with pytest.raises(InputError, match=r"weight \[24, 16\] and bias \[24\]"):
        BoxRegressor(torch.zeros(24, 16), torch.zeros(24))


def test_scores_of_other_rois_or_classes_are_refused() -> None:
    case = made(0)
    for scorer in (lambda features: case.scores(features)[1:], lambda features: case.scores(features)[:, 1:]):
        with pytest.raises(InputError, match=r"expected \[60, 6\]"):
            detect_boxes(case.rois, case.regressor, [case.scores, scorer], SETTINGS)


@pytest.mark.parametrize("name", ["score_threshold", "nms_threshold", "max_detections"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is -1"):
        DetectionSettings(**{name: -1})
    with pytest.raises(InputError, match=name):
        DetectionSettings(**{name: 0.0 if name != "score_threshold" else 1.0})


@pytest.mark.parametrize("least", [-math.inf, -math.log(1000 / 16)])
def test_shrinking_is_bounded_as_the_regressor_says(least: float) -> None:
    rois = ImageRois(7, SIZE, torch.ones(1, 1), torch.tensor([[0.0, 0.0, 75.0, 75.0]]))
    bias = torch.tensor([[0.0, 0.0, -50.0, -22.0]])  # shrinks by exp(10) and exp(4.4): the bound is at exp(4.135)
    regressor = BoxRegressor(torch.zeros(1, 4, 1), bias, least_growth=least)
    decoded = DecodedBoxes(rois.features, rois.boxes, SIZE, regressor, 1).of(torch.tensor([0]))[0]
    sides = (decoded[2:] - decoded[:2]).tolist()
    expected = [75 * math.exp(-10), 75 * math.exp(-4.4)] if least == -math.inf else [1.2, 1.2]
    assert sides == pytest.approx(expected, rel=1e-3, abs=1e-5)
