"""Images, objects and detections through a detector's resizing, by each framework's conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from gol_decouple.backbones import byte_resizing
from gol_decouple.backbones.mask_pasting import paste
from gol_decouple.backbones.resizing import Resizing
from gol_decouple.detector_settings import ConventionsConfig, DetectorConfig
from gol_decouple.settings import TransformConfig

MEAN, STD = (0.5, 0.25, 0.125), (0.2, 0.4, 0.8)
OF_BYTES = [("mmdetection", "opencv"), ("detectron2", "pillow")]


def resizing(framework: str = "torchvision", **settings: Any) -> Resizing:
    conventions = ConventionsConfig(framework=framework)
    sizes: dict[str, Any] = {"min_size": 48, "max_size": 80, "train_min_sizes": (24, 32, 40)}
    config = DetectorConfig(**sizes | {"conventions": conventions} | settings)
    return Resizing(config, TransformConfig(mean=MEAN, std=STD))


def images() -> list[torch.Tensor]:
    """Of 37 x 50 and 45 x 31 pixels, decoded from bytes."""
    stream = torch.Generator().manual_seed(0)
    return [torch.randint(256, (3, *size), generator=stream) / 255 for size in ((37, 50), (45, 31))]


@pytest.mark.parametrize(("framework", "how"), OF_BYTES)
def test_bytes_are_resized_then_normalised_then_padded_with_zeros(framework: str, how: Any) -> None:
    transform, given = resizing(framework).eval(), images()
    before = torch.get_rng_state()
    batch, _ = transform(given)
    assert torch.equal(torch.get_rng_state(), before), "only training draws a size"
    # 48 / 37 * 50 = 64.86 and 48 / 31 * 45 = 69.68, to the nearest; both below 80.
    assert batch.image_sizes == [(48, 65), (70, 48)]
    assert batch.tensors.shape == (2, 3, 96, 96)
    for found, image, (height, width) in zip(batch.tensors, given, batch.image_sizes, strict=True):
        pixels = byte_resizing.resized((image * 255).round().to(torch.uint8), (height, width), how).double().numpy()
        expected = (pixels / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
        np.testing.assert_allclose(found[:, :height, :width], expected, atol=1e-6)
        assert found[:, height:].abs().max() == found[:, :, width:].abs().max() == 0


def test_every_byte_comes_back_from_its_float() -> None:
    every = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    transform = resizing("mmdetection", min_size=1, max_size=256, train_min_sizes=(1,)).eval()
    for image in (every / 255, every / 255 - 1e-6, every / 255 + 1e-6):
        batch, _ = transform([image])
        back = batch.tensors[0, :, 0] * torch.tensor(STD)[:, None] + torch.tensor(MEAN)[:, None]
        torch.testing.assert_close(255 * back, every[:, 0].float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("framework", ["torchvision", "mmdetection", "detectron2"])
def test_objects_follow_their_image_in_training(framework: str) -> None:
    transform = resizing(framework).train()
    mask = torch.zeros(2, 37, 50, dtype=torch.uint8)
    mask[0, 5:20, 10:40] = 1
    boxes = torch.tensor([[10.0, 5.0, 40.0, 20.0], [0.0, 0.0, 50.0, 37.0]])
    given = {"boxes": boxes, "labels": torch.tensor([1, 2]), "masks": mask}
    sizes = set()
    for seed in range(12):
        torch.manual_seed(seed)
        batch, (target,) = transform(images()[:1], [given])
        height, width = batch.image_sizes[0]
        sizes.add(height)
        expected = boxes * torch.tensor([width / 50, height / 37, width / 50, height / 37])
        torch.testing.assert_close(target["boxes"], expected)
        assert target["masks"].shape == (2, height, width)
        assert target["masks"].dtype == torch.uint8
        rows, columns = torch.nonzero(target["masks"][0], as_tuple=True)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose([int(side) for side in found], expected[0], atol=1)
        assert target["labels"].tolist() == [1, 2]
    assert sizes == {24, 32, 40}
    assert torch.equal(given["boxes"], boxes), "what was given stays"
    assert given["masks"].shape == (2, 37, 50)


def test_torchvisions_is_its_own() -> None:
    theirs = GeneralizedRCNNTransform((48,), 80, list(MEAN), list(STD)).eval()
    ours = resizing().eval()
    expected, _ = theirs(images())
    found, _ = ours(images())
    assert torch.equal(found.tensors, expected.tensors)
    assert found.image_sizes == expected.image_sizes == [(48, 64), (69, 48)]
    given = {"boxes": torch.tensor([[3.2, 4.1, 30.7, 40.0]]), "masks": torch.rand(1, 1, 28, 28)}
    one, other = (way.postprocess([dict(given)], [(48, 64)], [(37, 50)])[0] for way in (ours, theirs))
    assert torch.equal(one["boxes"], other["boxes"])
    assert torch.equal(one["masks"], other["masks"])


@pytest.mark.parametrize("framework", ["mmdetection", "detectron2"])
def test_detections_are_turned_back_and_their_masks_pasted(framework: str) -> None:
    transform = resizing(framework).eval()
    masks = [torch.rand(2, 1, 28, 28), torch.rand(1, 1, 28, 28)]
    boxes = [torch.tensor([[6.5, 4.8, 39.0, 24.0], [0.0, 0.0, 65.0, 48.0]]), torch.tensor([[4.8, 7.0, 24.0, 35.0]])]
    found = [{"boxes": own, "masks": mask} for own, mask in zip(boxes, masks, strict=True)]
    placed = transform.postprocess(found, [(48, 65), (70, 48)], [(37, 50), (45, 31)])
    expected = [[5.0, 3.7, 30.0, 18.5], [0.0, 0.0, 50.0, 37.0]]
    np.testing.assert_allclose(placed[0]["boxes"], expected, atol=1e-4)
    for own, mask, size in zip(placed, masks, [(37, 50), (45, 31)], strict=True):
        assert torch.equal(own["masks"], paste(mask, own["boxes"], size))
    alone = transform.postprocess([{"boxes": boxes[1]}], [(70, 48)], [(45, 31)])
    assert alone[0].keys() == {"boxes"}
