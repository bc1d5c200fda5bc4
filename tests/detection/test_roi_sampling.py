"""RoIs of a frozen detector: matched and drawn as torchvision does, seeded by image, in pixels of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.detection import MaskRCNN
from torchvision.ops import box_iou

from gol_decouple.backbones.class_order import labels_to_torchvision
from gol_decouple.backbones.mask_rcnn import build_detector
from gol_decouple.config import load_config
from gol_decouple.data.annotated_batches import AnnotatedBatches
from gol_decouple.data.loading import Key
from gol_decouple.data.lvis import load_annotated
from gol_decouple.detection.roi_sampling import Rois, Sampling, train_rois, val_rois

Batch = tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]
IDS = [100, 102, 104]
ALL = Sampling(1000, 1.0)


@pytest.fixture(scope="module")
def detector(detector_config: Path) -> MaskRCNN:
    config = load_config(str(detector_config))
    assert config.detector is not None
    return build_detector(config.backbone.name, 3, 0, config.detector, config.transform, False)


@pytest.fixture(scope="module")
def batch(detector_config: Path) -> Batch:
    train = load_annotated(load_config(str(detector_config)).data).splits["train"]
    (loaded,) = AnnotatedBatches(train, [[Key(0), Key(2), Key(3)]], masks=False, workers=0)
    return loaded.images(), loaded.targets()


def proposals_of(detector: MaskRCNN, batch: Batch) -> tuple[list[torch.Tensor], list[dict[str, Any]], Any]:
    """torchvision's proposals and resized targets, labels its own."""
    detector.eval()
    targets = [target | {"labels": labels_to_torchvision(target["labels"], 3)} for target in batch[1]]
    with torch.no_grad():
        resized, there = detector.transform(batch[0], targets)
        proposals, _ = detector.rpn(resized, detector.backbone(resized.tensors))
    return proposals, there, resized


def resized_boxes(rois: Rois, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    height, width = size[0] / image.shape[1], size[1] / image.shape[2]
    return rois.boxes * torch.tensor([width, height, width, height])


def test_with_room_for_all_they_are_torchvisions_proposals_and_the_objects(detector: MaskRCNN, batch: Batch) -> None:
    proposals, targets, resized = proposals_of(detector, batch)
    found = train_rois(detector, *batch, IDS, 3, ALL)
    heads = detector.roi_heads
    boxes = heads.add_gt_proposals(proposals, [target["boxes"] for target in targets])
    _, labels = heads.assign_targets_to_proposals(
        boxes, [target["boxes"] for target in targets], [target["labels"] for target in targets]
    )
    for at, rois in enumerate(found):
        assert torch.equal(labels_to_torchvision(rois.labels, 3), labels[at])
        torch.testing.assert_close(resized_boxes(rois, batch[0][at], resized.image_sizes[at]), boxes[at])
        ious = box_iou(targets[at]["boxes"], boxes[at])
        torch.testing.assert_close(rois.ious, ious.max(dim=0).values)
        assert len(rois) == len(proposals[at]) + len(targets[at]["boxes"])
        assert (rois.labels[-len(targets[at]["boxes"]) :] < 3).all(), "the objects themselves are RoIs of theirs"


def test_features_are_what_the_classifier_sees(detector: MaskRCNN, batch: Batch) -> None:
    seen: list[torch.Tensor] = []
    hook = detector.roi_heads.box_predictor.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    detector.eval()
    with torch.no_grad():
        detector(batch[0])
    hook.remove()
    found = val_rois(detector, *batch, 3, 1000)
    assert all(rois.features.dtype == torch.float32 for rois in found)
    torch.testing.assert_close(torch.cat([rois.features for rois in found]), seen[0])


def test_boxes_are_in_pixels_of_the_original_image(detector: MaskRCNN, batch: Batch) -> None:
    for rois, target in zip(train_rois(detector, *batch, IDS, 3, ALL), batch[1], strict=True):
        own = rois.boxes[-len(target["boxes"]) :]
        torch.testing.assert_close(own, target["boxes"])
        torch.testing.assert_close(rois.ious[-len(own) :], torch.ones(len(own)))


def test_boxes_come_back_from_sizes_that_were_rounded(detector: MaskRCNN) -> None:
    # 37x91 becomes 39x96: height and width by factors of their own.
    target = {"boxes": torch.tensor([[10.0, 5.0, 80.0, 30.0]]), "labels": torch.tensor([1])}
    (rois,) = train_rois(detector, [torch.rand(3, 37, 91)], [target], [1], 3, ALL)
    torch.testing.assert_close(rois.boxes[-1], target["boxes"][0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("rois", "fraction"), [(16, 0.25), (16, 1.0), (3, 1.0), (8, 0.5), (5, 0.1)])
def test_as_many_of_objects_are_drawn_as_torchvision_draws(
    detector: MaskRCNN, batch: Batch, rois: int, fraction: float
) -> None:
    every = train_rois(detector, *batch, IDS, 3, ALL)
    sampler = detector.roi_heads.fg_bg_sampler
    before = sampler.batch_size_per_image, sampler.positive_fraction
    sampler.batch_size_per_image, sampler.positive_fraction = rois, fraction
    positive, negative = sampler([labels_to_torchvision(one.labels, 3) for one in every])
    sampler.batch_size_per_image, sampler.positive_fraction = before
    drawn = train_rois(detector, *batch, IDS, 3, Sampling(rois, fraction))
    for one, first, second in zip(drawn, positive, negative, strict=True):
        assert int((one.labels < 3).sum()) == int(first.sum())
        assert int((one.labels == 3).sum()) == int(second.sum())
        assert len(one) <= rois


def test_draws_are_those_of_the_seed_and_the_image_alone(detector: MaskRCNN, batch: Batch) -> None:
    labels = torch.tensor([3] * 40 + [0, 1, 2, 2, 1])
    sampling = Sampling(12, 0.25)
    chosen = sampling.choose(labels, 3, 100)
    torch.manual_seed(99)
    assert torch.equal(sampling.choose(labels, 3, 100), chosen)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert not torch.equal(sampling.choose(labels, 3, 101), chosen)
    assert not torch.equal(Sampling(12, 0.25, seed=1).choose(labels, 3, 100), chosen)
    before = torch.get_rng_state()
    first = train_rois(detector, *batch, IDS, 3, sampling)
    again = train_rois(detector, *batch, IDS, 3, sampling)
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.features, other.features)


def test_over_many_images_every_roi_is_drawn_as_often(detector: MaskRCNN) -> None:
    labels = torch.tensor([3] * 10 + [0] * 6)
    counts = torch.zeros(16)
    for image in range(600):
        counts[Sampling(8, 0.5).choose(labels, 3, image)] += 1
    torch.testing.assert_close(counts[:10] / 600, torch.full((10,), 0.4), atol=0.08, rtol=0)
    torch.testing.assert_close(counts[10:] / 600, torch.full((6,), 4 / 6), atol=0.08, rtol=0)


def test_val_has_the_surest_proposals_in_their_order(detector: MaskRCNN, batch: Batch) -> None:
    proposals, targets, resized = proposals_of(detector, batch)
    found = val_rois(detector, *batch, 3, 7)
    for at, rois in enumerate(found):
        assert len(rois) == 7
        torch.testing.assert_close(
            resized_boxes(rois, batch[0][at], resized.image_sizes[at]), proposals[at][:7], rtol=1e-4, atol=1e-4
        )
        ious = box_iou(targets[at]["boxes"], proposals[at][:7]).max(dim=0)
        torch.testing.assert_close(rois.ious, ious.values)
        wanted = torch.where(ious.values >= 0.5, targets[at]["labels"][ious.indices] - 1, 3)
        assert torch.equal(rois.labels, wanted)


def test_an_image_without_objects_is_all_background(detector: MaskRCNN, batch: Batch) -> None:
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    for rois in (
        *train_rois(detector, batch[0][:1], [empty], [1], 3, Sampling(16, 0.25)),
        *val_rois(detector, batch[0][:1], [empty], 3, 12),
    ):
        assert len(rois) > 0
        assert set(rois.labels.tolist()) == {3}
        assert rois.labels.dtype == torch.int64
        assert not rois.ious.any()


def test_a_roi_exactly_at_half_is_of_the_object(detector: MaskRCNN) -> None:
    from gol_decouple.detection.roi_sampling import _match

    target = {"boxes": torch.tensor([[0.0, 0.0, 10.0, 10.0]]), "labels": torch.tensor([1])}
    boxes = torch.tensor([[0.0, 0.0, 10.0, 5.0], [0.0, 0.0, 10.0, 4.9]])
    labels, ious = _match(detector, boxes, target, 3)
    assert labels.tolist() == [1, 3]
    torch.testing.assert_close(ious, torch.tensor([0.5, 0.49]))
    _, theirs = detector.roi_heads.assign_targets_to_proposals(
        [boxes], [target["boxes"]], [labels_to_torchvision(target["labels"], 3)]
    )
    assert torch.equal(labels_to_torchvision(labels, 3), theirs[0])


def test_mixed_precision_moves_features_a_little_and_they_stay_float32(detector: MaskRCNN, batch: Batch) -> None:
    (plain, *_), (mixed, *_) = (val_rois(detector, *batch, 3, 12, precision) for precision in (None, torch.bfloat16))
    assert mixed.features.dtype == mixed.boxes.dtype == torch.float32
    assert mixed.features.isfinite().all()
    assert not torch.equal(plain.features, mixed.features)
