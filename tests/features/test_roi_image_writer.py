"""`features.RoiWriter`: RoIs given an image at a time become the file that `features.write` makes of arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from roi_files import BIAS, IMAGE_COUNTS, NAMES, NUM_IMAGES, PER_IMAGE, WEIGHT, C, D, Made, arguments, make

from gol_decouple import features
from gol_decouple.errors import InputError
from gol_decouple.features import layout, writer

MADE = {"train": make(9), "test": make(4, 1, 100)}
REGRESSOR = (np.ones((C, 4, D), np.float32), np.arange(C * 4, dtype=np.float32).reshape(C, 4))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images a block, and no waiting for the disk."""
    monkeypatch.setattr(layout, "BLOCK_BYTES", 2 * PER_IMAGE * D * 4 + 1)
    monkeypatch.setattr("os.fdatasync", lambda descriptor: None)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def images_of(made: Made) -> features.ImageRows:
    return features.ImageRows(made.ids, np.full(len(made.ids), 480), np.full(len(made.ids), 640), PER_IMAGE)


def opened(path: Path, **changes: Any) -> features.RoiWriter:
    images = {split: images_of(made) for split, made in MADE.items()}
    given: dict[str, Any] = {"class_names": NAMES, "feature_size": D, "image_counts": IMAGE_COUNTS, "dtype": "float32"}
    given |= {"num_images": NUM_IMAGES, "classifier": (WEIGHT, BIAS), "regressor": REGRESSOR}
    return features.RoiWriter(path, changes.pop("images", images), **(given | changes))


def rois_of(split: str, image_id: int) -> tuple[Any, Any, Any, Any]:
    made = MADE[split]
    at = made.ids.tolist().index(image_id)
    rows = slice(at * PER_IMAGE, at * PER_IMAGE + int(made.num_rois[at]))
    return made.x[rows], made.labels[rows], made.boxes[rows], made.iou[rows]


def fill(path: Path, stop: int | None = None, **changes: Any) -> list[tuple[str, int]]:
    """Writes all that is pending, or stops by an error before one of the images; returns what was pending."""
    with opened(path, **changes) as file:
        pending = file.pending()
        for number, (split, image_id) in enumerate(pending):
            if number == stop:
                raise KeyboardInterrupt
            file.add(split, image_id, *rois_of(split, image_id))
    return pending


def test_the_file_is_that_of_arrays(tmp_path: Path) -> None:
    fill(tmp_path / "images.h5")
    features.write(tmp_path / "arrays.h5", **arguments(MADE["train"], MADE["test"]))
    assert (tmp_path / "images.h5").read_bytes() == (tmp_path / "arrays.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrays.h5", "images.h5"]


def test_tensors_and_half_precision(tmp_path: Path) -> None:
    with opened(tmp_path / "rois.h5", dtype="float16") as file:
        for split, image_id in file.pending():
            x, *others = map(torch.as_tensor, rois_of(split, image_id))
            file.add(split, image_id, x.bfloat16(), *others)
    found = features.open(tmp_path / "rois.h5")
    assert found["train"].features.dtype == np.float16
    np.testing.assert_allclose(found["train"].features[0], MADE["train"].x, rtol=1e-2)


def test_only_some_blocks_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = writer.FeatureWriter.write

    def spy(self: Any, block: Any, *given: Any, **columns: Any) -> None:
        seen.append(block)
        real(self, block, *given, **columns)

    monkeypatch.setattr(writer.FeatureWriter, "write", spy)
    with opened(tmp_path / "rois.h5") as file:
        for number, (split, image_id) in enumerate(file.pending()):
            assert len(seen) >= number // 2 - 3
            file.add(split, image_id, *rois_of(split, image_id))
    assert len(seen) == 5 + 2


def test_an_interrupted_file_is_continued_if_its_origin_is_to_tell(tmp_path: Path) -> None:
    path, origin = tmp_path / "rois.h5", {"backbone": {"name": "mine", "sha256": "1"}}
    with pytest.raises(KeyboardInterrupt):
        fill(path, 7, resume=True, origin=origin)
    assert not path.exists()
    left = fill(path, resume=True, origin=origin)
    assert 13 - 7 <= len(left) < 13
    fill(tmp_path / "once.h5", resume=True, origin=origin)
    assert path.read_bytes() == (tmp_path / "once.h5").read_bytes()


def test_another_origin_begins_afresh(tmp_path: Path) -> None:
    path = tmp_path / "rois.h5"
    with pytest.raises(KeyboardInterrupt):
        fill(path, 7, resume=True, origin={"backbone": {"sha256": "1"}})
    assert len(fill(path, resume=True, origin={"backbone": {"sha256": "2"}})) == 13


def test_without_resume_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "rois.h5", 7)
    assert list(tmp_path.iterdir()) == []


def test_images_on_the_disk_are_passed_over(tmp_path: Path) -> None:
    """Several files are filled side by side, and an interruption leaves one of them further."""
    path = tmp_path / "rois.h5"
    with pytest.raises(KeyboardInterrupt):
        fill(path, 9, resume=True)
    with opened(path, resume=True) as file:
        assert len(file.pending()) < 13
        for split, made in MADE.items():
            for image_id in made.ids.tolist():
                file.add(split, image_id, *rois_of(split, image_id))
    np.testing.assert_array_equal(features.open(path)["train"].labels, MADE["train"].labels)


def refused(tmp_path: Path, work: Callable[[features.RoiWriter], None], **changes: Any) -> InputError:
    with pytest.raises(InputError) as error, opened(tmp_path / "rois.h5", **changes) as file:
        work(file)
    assert not (tmp_path / "rois.h5").exists()
    return error.value


def first(**changes: Any) -> Callable[[features.RoiWriter], None]:
    names = ("features", "labels", "boxes", "iou")
    given = dict(zip(names, rois_of("train", 0), strict=True)) | changes
    return lambda file: file.add("train", 0, *given.values())


def test_what_is_added_is_checked(tmp_path: Path) -> None:
    x, labels, boxes, iou = rois_of("train", 0)
    assert "train image 5 is out of turn: train image 0 is next" in str(
        refused(tmp_path, lambda file: file.add("train", 5, *rois_of("train", 5)))
    )
    error = refused(tmp_path, lambda file: file.add("test", 0, x, labels, boxes, iou))
    assert error.message.startswith("there is no test image 0 in ")
    error = refused(tmp_path, first(features=x[:, 1:]))
    assert f"train image 0: features are float32 [{len(x)}, 7], expected floats [R, 8]" in str(error)
    assert "expected numbers" in str(refused(tmp_path, first(boxes=boxes[:, :3])))
    assert f"expected {len(x)} integers" in str(refused(tmp_path, first(labels=labels.astype(float))))
    many = [np.repeat(part[:1], 7, axis=0) for part in (x, labels, boxes, iou)]
    error = refused(tmp_path, lambda file: file.add("train", 0, *many))
    assert "train image 0: 7 RoIs, and it has 6 rows" in str(error)


def test_values_are_checked_when_they_are_written(tmp_path: Path) -> None:
    def work(file: features.RoiWriter) -> None:
        for split, image_id in file.pending():
            x, *others = rois_of(split, image_id)
            file.add(split, image_id, np.where(image_id == 3, np.nan, x), *others)

    assert "hold NaN or infinity" in str(refused(tmp_path, work))


def test_every_image_has_to_come(tmp_path: Path) -> None:
    def work(file: features.RoiWriter) -> None:
        for split, image_id in file.pending()[:-2]:
            file.add(split, image_id, *rois_of(split, image_id))

    error = refused(tmp_path, work)
    assert "lacks 2 images, test image 102 the first" in str(error)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": {"test": images_of(MADE["test"])}}, "needs a train split; given: test"),
        ({"images": {"train": images_of(MADE["train"]), "tset": images_of(MADE["test"])}}, "tset"),
        ({"images": {"train": features.ImageRows([1, 1], [5, 5], [5, 5], 6)}}, "image 1 is twice among the train"),
        ({"images": {"train": features.ImageRows([], [], [], 6)}}, "train has 0 images"),
        ({"classifier": (WEIGHT[:C], BIAS[:C])}, "the classifier is [3, 8] and [3], expected [4, 8] and [4]"),
        ({"class_names": ["cat"]}, "there are 1 class names, but image_counts of 3 classes"),
        ({"feature_size": 9}, "the box regressor is [3, 4, 8]"),
        ({"dtype": "int8"}, "int8"),
    ],
)
def test_what_it_is_opened_with_is_checked(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as error:
        opened(tmp_path / "rois.h5", **changes)
    assert told in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    fill(tmp_path / "rois.h5")
    with pytest.raises(InputError, match=r"rois\.h5 exists"):
        opened(tmp_path / "rois.h5")
    fill(tmp_path / "rois.h5", overwrite=True)
