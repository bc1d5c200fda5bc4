"""The plain detector's own parts against cases worked out by hand and loops, and the made state dicts."""

from __future__ import annotations

import math

import foreign
import numpy as np
import plain_detector as plain
import pytest
import torch
from fixed_point import resize_fixed_point
from torch import Tensor

FRAMEWORKS = ("mmdetection", "detectron2")


@pytest.mark.parametrize("how", [plain.MMDETECTION, plain.DETECTRON2])
def test_new_sizes_are_rounded_to_the_nearest(how: plain.Conventions) -> None:
    assert plain.new_size(427, 640, how) == (800, 1199)  # 1199.06
    assert plain.new_size(640, 480, how) == (1067, 800)  # 1066.67
    assert plain.new_size(300, 900, how) == (444, 1333)  # 444.33
    assert plain.new_size(50, 50, how) == (800, 800)
    # 666.5: half a pixel is a matter of the order of steps.
    assert plain.new_size(78, 156, how) == (667 if how.framework == "mmdetection" else 666, 1333)


def test_bytes_are_resized_as_opencv_does() -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.setNumThreads(0)  # its threads would not be there in worker processes, which then wait for them
    stream = np.random.default_rng(0)
    for old, new in (((37, 53), (64, 92)), ((53, 37), (25, 17)), ((24, 40), (12, 20)), ((9, 7), (9, 20))):
        image = stream.integers(0, 256, (*old, 3)).astype(np.uint8)
        np.testing.assert_array_equal(resize_fixed_point(image, *new), cv2.resize(image, new[::-1]), str(old))


def test_the_input_is_normalised_in_its_order_and_padded_with_zeros() -> None:
    image = np.zeros((40, 50, 3), np.uint8) + np.array([200, 100, 50], np.uint8)
    how = plain.DETECTRON2._replace(min_size=40, max_size=80)
    pixels, size = plain.prepare(image, how)
    assert pixels.shape == (3, 64, 64)
    assert size == (40, 50)
    torch.testing.assert_close(pixels[:, 0, 0], torch.tensor([50 - 103.53, 100 - 116.28, 200 - 123.675]))
    assert not pixels[:, 40:].any()
    assert not pixels[:, :, 50:].any()
    pixels, _ = plain.prepare(image, how._replace(framework="mmdetection", channels="rgb", std=plain.STD))
    torch.testing.assert_close(pixels[0, 39, 49].item(), (200 - 123.675) / 58.395)


def test_anchors() -> None:
    found = plain.anchors(2, 3, 16)
    assert found.shape == (18, 4)
    wide = 128 * math.sqrt(2) / 2, 128 / math.sqrt(2) / 2
    torch.testing.assert_close(found[0], torch.tensor([-wide[0], -wide[1], wide[0], wide[1]]))
    torch.testing.assert_close(found[4], torch.tensor([16.0 - 64, -64, 16 + 64, 64]))  # y 0, x 1, square
    torch.testing.assert_close(found[11], torch.tensor([-wide[1], 16 - wide[0], wide[1], 16 + wide[0]]))  # y 1, tall


def test_boxes_are_moved() -> None:
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    deltas = torch.tensor([[0.5, -0.25, math.log(2), math.log(0.5)]])
    torch.testing.assert_close(plain.moved(box, deltas, (100, 100), "detectron2"), torch.tensor([[10.0, 20, 50, 40]]))
    torch.testing.assert_close(plain.moved(box, deltas, (38, 45), "detectron2"), torch.tensor([[10.0, 20, 45, 38]]))
    # A side becomes at most 62.5 times as long, and in mmdetection at least 1 / 62.5 as long.
    for framework, shortest in (("mmdetection", 40 / 62.5), ("detectron2", 40 * math.exp(-9))):
        far = plain.moved(box, torch.tensor([[0.0, 0, 9, -9]]), (10**4, 10**4), framework)[0]
        assert far[2].item() == pytest.approx(20 + 625)
        assert (far[3] - far[1]).item() == pytest.approx(shortest, rel=1e-2)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_levels_change_at_powers_of_two(framework: str) -> None:
    sides = torch.tensor([1.0, 111.9, 112, 223.9, 224, 447.9, 448, 2000])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)
    assert plain.level_of(boxes, framework).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_levels_of_boxes_just_below_a_power_of_two_are_the_frameworks() -> None:
    side = 112 * (1 - 2e-7)
    box = torch.tensor([[0.0, 0.0, side, side]])
    assert plain.level_of(box, "mmdetection").item() == 1  # 1e-6 lifts it
    # In float32, what detectron2 adds is nothing.
    assert plain.level_of(torch.tensor([[0.0, 0.0, 111.999, 111.999]]), "detectron2").item() == 0


def bilinear(values: Tensor, y: float, x: float) -> Tensor:
    """At a point, with pixel centres at whole numbers: zero beyond one pixel outside, else as at the border."""
    height, width = values.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(len(values))
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    total = torch.zeros(len(values))
    for row in (top, top + 1):
        for column in (left, left + 1):
            share = (1 - abs(y - row)) * (1 - abs(x - column))
            if share > 0:
                total += share * values[:, row, column]
    return total


def test_pooling_is_that_of_loops() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(1, 2, 32 >> level, 40 >> level) for level in range(4)]
    boxes = torch.tensor([[3.3, 5.1, 61.7, 90.2], [-4.0, 10.0, 140.0, 127.5], [20.0, 20.0, 20.5, 21.0]])
    found = plain.pooled(maps, boxes, 3, "mmdetection")
    for box, level, values in zip(boxes.tolist(), (0, 1, 0), found, strict=True):
        left, top, right, bottom = (side / plain.STRIDES[level] - 0.5 for side in box)
        height, width = (bottom - top) / 3, (right - left) / 3
        rows, columns = math.ceil(height), math.ceil(width)
        for y in range(3):
            for x in range(3):
                points = [
                    bilinear(
                        maps[level][0], top + height * (y + (i + 0.5) / rows), left + width * (x + (j + 0.5) / columns)
                    )
                    for i in range(rows)
                    for j in range(columns)
                ]
                torch.testing.assert_close(values[:, y, x], torch.stack(points).mean(dim=0))


def suppressed(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    for at in scores.argsort(descending=True).tolist():
        for better in kept:
            low, high = boxes[[at, better], :2].amax(dim=0), boxes[[at, better], 2:].amin(dim=0)
            shared = (high - low).clamp(min=0).prod().item()
            areas = [(boxes[i, 2:] - boxes[i, :2]).prod().item() for i in (at, better)]
            if shared / (sum(areas) - shared) > threshold:
                break
        else:
            kept.append(at)
    return kept


def test_the_best_are_suppressed_within_their_class_as_in_loops() -> None:
    torch.manual_seed(1)
    corners = torch.rand(60, 3, 2) * 50
    boxes = torch.cat([corners, corners + 20 + 20 * torch.rand(60, 3, 2)], dim=-1)
    scores = torch.rand(60, 3)
    how = plain.MMDETECTION._replace(score_threshold=0.2, max_detections=25)
    expected = []
    for label in range(3):
        sure = (scores[:, label] > 0.2).nonzero()[:, 0]
        kept = sure[suppressed(boxes[sure, label], scores[sure, label], 0.5)]
        expected += [(scores[at, label].item(), label, boxes[at, label].tolist()) for at in kept]
    assert len(expected) > 25
    found_boxes, labels, found_scores = plain.best(boxes, scores, how)
    found = list(zip(found_scores.tolist(), labels.tolist(), found_boxes.tolist(), strict=True))
    assert found == sorted(expected, reverse=True)[:25]
    # One regressor for all classes.
    single, labels, _ = plain.best(boxes[:, :1], scores, how)
    assert len(single) == 25
    assert {tuple(box) for box in single.tolist()} <= {tuple(box) for box in boxes[:, 0].tolist()}


def test_masks_are_pasted_at_pixel_centres() -> None:
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    pasted = plain.paste(mask, torch.tensor([2.0, 1.0, 6.0, 5.0]), 6, 8)
    # Of a cell's two pixels, the outer is a quarter of a cell nearer to the border: 1 - 1/4 of it, and 1/4 of zero.
    left = torch.tensor([0.0, 0.25, 0.75, 0.75, 0.25, 0.0, 0.0, 0.0])
    rows = torch.tensor([0.25, 0.75, 0.75, 0.25, 0.0, 0.0])
    right = torch.tensor([0.0, 0.0, 0.0, 0.25, 0.75, 0.75, 0.25, 0.0])
    low = torch.tensor([0.0, 0.0, 0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(pasted, rows[:, None] * left + low[:, None] * (left + right))
    torch.testing.assert_close(
        pasted[None, None],
        torch.nn.functional.grid_sample(mask[None, None], grid(6, 8, 2.0, 1.0, 4.0), align_corners=False),
    )


def grid(height: int, width: int, left: float, top: float, side: float) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([(x - left) / side * 2 - 1, (y - top) / side * 2 - 1], dim=-1)[None]


def test_activations() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5]])
    bias = logits[0]
    for framework in FRAMEWORKS:
        state = {f"{foreign.name_of(framework, 'classes')}.weight": torch.zeros(3, 4)}
        state |= {f"{foreign.name_of(framework, 'classes')}.bias": bias}
        state |= {f"{foreign.name_of(framework, 'masks')}.{key}": torch.zeros(2) for key in ("weight", "bias")}
        for activation, expected in (
            ("softmax", logits.exp()[0, :2] / logits.exp().sum()),
            ("sigmoid", 1 / (1 + (-logits[0, :2]).exp())),
            ("gumbel", (-(-logits[0, :2]).exp()).exp()),
        ):
            how = plain.Conventions(framework, activation=activation)
            torch.testing.assert_close(plain.class_scores(state, how, torch.ones(1, 4))[0], expected)


@pytest.mark.parametrize("body", list(foreign.BODIES))
def test_state_dicts_have_the_shapes_of_torchvisions_resnets(body: str) -> None:
    from torchvision.models.resnet import Bottleneck, ResNet

    shape = foreign.BODIES[body]
    with torch.device("meta"):
        resnet = ResNet(Bottleneck, list(shape.blocks), groups=shape.groups, width_per_group=shape.group_width)
    expected = {f"backbone.{name}": tuple(t.shape) for name, t in resnet.state_dict().items() if name[:3] != "fc."}
    made = {name: tuple(size) for name, size in shapes_of("mmdetection", body).items() if name[:9] == "backbone."}
    assert made == expected


def shapes_of(framework: str, body: str) -> dict[str, torch.Size]:
    """Without drawing the numbers of a large network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", lambda shape, **_: torch.empty(shape, device="meta"))
        return {name: tensor.shape for name, tensor in foreign.state_of(framework, body).items()}


def test_both_frameworks_have_the_same_weights_under_their_own_names() -> None:
    one, two = (foreign.state_of(framework, "narrow", 3, seed=4) for framework in FRAMEWORKS)
    counters = [name for name in one if name.endswith("num_batches_tracked")]
    assert len(counters) == 17  # of the stem, and four in each block, the shortcut's among them
    others = [tensor for name, tensor in one.items() if name not in counters]
    assert all(torch.equal(a, b) for a, b in zip(others, two.values(), strict=True))
    assert not one.keys() & two.keys()
    assert not torch.equal(others[0], next(iter(foreign.state_of("mmdetection", "narrow", 3, seed=5).values())))
    assert "roi_heads.mask_head.mask_fcn4.weight" in two
    assert two["roi_heads.box_predictor.cls_score.weight"].shape == (4, 1024)
    agnostic = foreign.state_of("detectron2", "narrow", 3, columns=3, agnostic=True)
    assert agnostic["roi_heads.box_predictor.cls_score.bias"].shape == (3,)
    assert agnostic["roi_heads.box_predictor.bbox_pred.weight"].shape == (4, 1024)


@pytest.mark.parametrize("how", [plain.MMDETECTION, plain.MMDETECTION_CAFFE, plain.DETECTRON2])
def test_a_made_detector_finds_different_things_and_conventions_show(how: plain.Conventions) -> None:
    y, x = np.mgrid[:90, :120]
    image = np.stack([2 * x, 2 * y, (x * y) % 256], axis=-1).astype(np.uint8)
    image[20:60, 30:80] = (250, 30, 60)
    how = how._replace(min_size=96, max_size=160, score_threshold=0.1, max_detections=20)
    state = foreign.state_of(how.framework, "narrow", 12, unscaled=how.std[0] == 1)
    found = plain.detect(state, image, how)
    assert 50 < len(found.proposals) <= 1000
    assert found.features.shape == (len(found.proposals), 1024)
    assert found.features.std(dim=0).mean() > 0.1, "RoIs differ"
    assert len(found.scores.argmax(dim=1).unique()) > 4, "so do their classes"
    assert len(found.labels) == 20
    assert (found.detected.diff() <= 0).all()
    assert found.masks.shape == (20, 90, 120)
    assert found.masks.any()
    for change in ({"channels": "bgr" if how.channels == "rgb" else "rgb"}, {"eps": 0.0}, {"mean": (0.0,) * 3}):
        other = plain.detect(state, image, how._replace(**change), found.proposals)
        assert (other.features - found.features).abs().max() > 0.05, change
    nothing = plain.detect(state, image, how._replace(score_threshold=1.0), found.proposals)
    assert nothing.masks.shape == (0, 90, 120)
    stride = {"stride_in": "1x1" if how.stride_in == "3x3" else "3x3"}
    other = plain.detect(state, image, how._replace(**stride), found.proposals)
    assert (other.features - found.features).abs().max() > 0.05
