"""Files of RoIs: what is written comes back, and what cannot be is refused, by the writer and by the reader."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from roi_files import BIAS, IMAGE_COUNTS, NAMES, NUM_IMAGES, PER_IMAGE, WEIGHT, C, D, Made, arguments, make
from test_reader import flip, offset_of

from gol_decouple import features
from gol_decouple.errors import InputError
from gol_decouple.features import layout

TRAIN, TEST = make(10), make(5, 1, 1000)


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fdatasync", lambda descriptor: None)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def write_small(path: Path, **changes: Any) -> Path:
    """Blocks of two images, 12 rows: 5 of train, 3 of test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCK_BYTES", 2 * PER_IMAGE * D * 4 + 1)
        return features.write(path, **arguments(TRAIN, TEST, **changes))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests copy it before they change it."""
    return write_small(tmp_path_factory.mktemp("written") / "rois.h5")


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path / "copy.h5"))


@pytest.mark.parametrize(("split", "made"), [("train", TRAIN), ("test", TEST)])
def test_splits_come_back(written: Path, split: str, made: Made) -> None:
    part = features.open(written)[split]
    np.testing.assert_array_equal(part.features[0], made.x)
    np.testing.assert_array_equal(part.labels, made.labels)
    np.testing.assert_array_equal(part.boxes[:], made.boxes)
    np.testing.assert_array_equal(part.ious[:], made.iou)
    np.testing.assert_array_equal(part.ids, np.arange(len(made.labels)))
    np.testing.assert_array_equal(part.image_index, np.arange(len(made.labels)) // PER_IMAGE)
    images = part.images
    assert images.ids.tolist() == made.ids.tolist()
    assert images.num_rois.tolist() == made.num_rois.tolist()
    assert (images.heights == 480).all()
    assert (images.widths == 640).all()
    assert (images.rois_per_image, len(images)) == (PER_IMAGE, len(made.ids))


def test_what_is_told_of_the_file_comes_back(written: Path) -> None:
    file = features.open(written)
    assert file.is_detection
    assert file.checked
    assert file.classes.names == NAMES
    assert file.classes.train_counts.tolist() == [int((TRAIN.labels == label).sum()) for label in range(C)]
    assert file.classes.image_counts is not None
    assert file.classes.image_counts.tolist() == IMAGE_COUNTS
    assert file.classes.num_images == NUM_IMAGES
    assert file.classes.frequency is not None
    assert file.classes.frequency.tolist() == ["f", "c", "r"]
    assert file.classifier is not None
    np.testing.assert_array_equal(file.classifier.weight, WEIGHT)
    np.testing.assert_array_equal(file.classifier.bias, BIAS)
    assert file.regressor is not None
    np.testing.assert_array_equal(file.regressor.weight, np.ones((C, 4, D)))
    np.testing.assert_array_equal(file.regressor.bias, np.arange(C * 4).reshape(C, 4))
    assert file.regressor.coder_weights == (10.0, 10.0, 5.0, 5.0)


def test_a_file_of_samples_has_none_of_it(gaussians: Path) -> None:
    file = features.open(gaussians)
    assert not file.is_detection
    assert (file.regressor, file.classes.image_counts, file.classes.frequency, file.classes.num_images) == (None,) * 4
    for name in ("boxes", "ious", "images", "image_index"):
        with pytest.raises(InputError, match=r"gaussians\.h5 holds samples, not RoIs"):
            getattr(file["train"], name)


KEYS = {
    "one": 7,
    "rows": np.s_[10:31],
    "step": np.s_[::-7],
    "list": [50, 3, 3],
    "mask": TRAIN.labels == C,
    "none": np.s_[4:4],
    "ellipsis": ...,
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_boxes_and_ious_are_sliced_like_numpys(written: Path, key: Any) -> None:
    part = features.open(written)["train"]
    assert (part.boxes.shape, part.ious.shape, len(part.ious)) == ((60, 4), (60,), 60)
    np.testing.assert_array_equal(part.boxes[key], TRAIN.boxes[key])
    np.testing.assert_array_equal(part.ious[key], TRAIN.iou[key])
    if key is not ...:
        np.testing.assert_array_equal(part.boxes[key, 2], TRAIN.boxes[key, 2])


def test_tensors_and_what_may_be_left_out(tmp_path: Path) -> None:
    given = arguments(TRAIN, regressor=None, frequency=list("rcf"))
    rois = replace(TRAIN.rois, boxes=torch.from_numpy(TRAIN.boxes).double(), iou=torch.from_numpy(TRAIN.iou))
    given |= {"detection": replace(given["detection"], rois={"train": rois}), "class_names": None, "classifier": None}
    file = features.open(features.write(tmp_path / "f.h5", **given, dtype="float16"))
    assert file.classes.names == ["class 0", "class 1", "class 2"]
    assert file.classes.frequency is not None
    assert file.classes.frequency.tolist() == ["r", "c", "f"]
    assert (file.classifier, file.regressor) == (None, None)
    np.testing.assert_array_equal(file["train"].boxes[:], TRAIN.boxes)
    assert file["train"].features.dtype == np.float16


def test_a_regressor_for_all_classes(tmp_path: Path) -> None:
    regressor = (np.ones((1, 4, D)), np.zeros((1, 4)))
    file = features.open(write_small(tmp_path / "f.h5", regressor=regressor, coder_weights=(1, 1, 2, 2)))
    assert file.regressor is not None
    assert file.regressor.weight.shape == (1, 4, D)
    assert file.regressor.coder_weights == (1.0, 1.0, 2.0, 2.0)


def changed(name: str, row: Any, value: Any) -> dict[str, Any]:
    values = getattr(TRAIN, name).copy()
    values[row] = value
    return arguments(replace(TRAIN, **{name: values}), TEST)


def with_rois(**fields: Any) -> dict[str, Any]:
    return arguments(TRAIN, rois={"train": replace(TRAIN.rois, **fields)})


FIRST_UNUSED = int(np.argmax(TRAIN.labels == -1))
REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "label": (lambda: changed("labels", 5, C + 1), r"train labels: label 4 is outside -1\.\.3"),
    "negative label": (lambda: changed("labels", 5, -2), r"train labels: label -2 is outside -1\.\.3"),
    "hole": (lambda: changed("labels", 54, -1), r"rows 54\.\.59, which are of one image, have a RoI after one"),
    "box": (
        lambda: changed("boxes", 7, [5, 0, 4, 9]),
        r"train boxes of row 7 are \[5\.0, 0\.0, 4\.0, 9\.0\], expected x1",
    ),
    "box's y": (lambda: changed("boxes", 7, [0, 5, 9, 4]), "train boxes of row 7 are"),
    "infinite box": (lambda: changed("boxes", (0, 2), np.inf), "train boxes of row 0 hold NaN or infinity"),
    "iou": (lambda: changed("iou", 9, 1.5), r"train iou of row 9 are 1\.5, expected 0 to 1"),
    "negative iou": (lambda: changed("iou", 9, -0.1), "train iou of row 9 are"),
    "NaN": (lambda: changed("iou", 9, np.nan), "train iou of row 9 hold NaN or infinity"),
    "shape of boxes": (lambda: with_rois(boxes=TRAIN.boxes[:, :3]), r"train boxes are float32 \[60, 3\]"),
    "shape of ious": (lambda: with_rois(iou=TRAIN.iou[:-1]), r"train iou are float32 \[59\], expected numbers \[60\]"),
    "texts": (lambda: with_rois(iou=["a"] * 60), "train iou are <U1"),
    "image twice": (lambda: with_rois(image_ids=np.full(10, 3)), "image 3 is twice among the train images"),
    "height": (lambda: with_rois(heights=np.arange(10)), "train image 0 has height 0"),
    "sizes": (lambda: with_rois(widths=np.ones(9, int)), r"train widths are int64 \[9\], expected 10 integers"),
    "uneven": (lambda: with_rois(image_ids=np.arange(7)), "train has 60 rows of 7 images, which cannot own equally"),
    "no images": (lambda: with_rois(image_ids=np.arange(0)), "train has 60 rows of 0 images"),
    "counts": (
        lambda: arguments(TRAIN, image_counts=[161, 4, 8]),
        "image_counts are 4 to 161 for 160 annotated images",
    ),
    "no counts": (lambda: arguments(TRAIN, image_counts=np.zeros(0, int)), "image_counts are of no class"),
    "number of counts": (lambda: arguments(TRAIN, image_counts=[5, 3]), "3 class names, but image_counts of 2 classes"),
    "frequency": (lambda: arguments(TRAIN, frequency=list("rcx")), "frequency 'x' is none of r, c, f"),
    "frequencies": (lambda: arguments(TRAIN, frequency=list("rc")), "3 image_counts, but 2 frequencies"),
    "classifier": (
        lambda: arguments(TRAIN) | {"classifier": (WEIGHT[:C], BIAS[:C])},
        r"the classifier is \[3, 8\] and \[3\], expected \[4, 8\] and \[4\]",
    ),
    "regressor": (
        lambda: arguments(TRAIN, regressor=(np.ones((2, 4, D)), np.ones((2, 4)))),
        r"the box regressor is \[2, 4, 8\] and \[2, 4\], expected \[3, 4, 8\]",
    ),
    "NaN regressor": (
        lambda: arguments(TRAIN, regressor=(np.full((C, 4, D), np.nan), np.ones((C, 4)))),
        "the box regressor holds NaN or infinity",
    ),
    "coder": (
        lambda: arguments(TRAIN, coder_weights=(10, 10, 5, 0)),
        r"coder_weights are \[10\.0, 10\.0, 5\.0, 0\.0\]",
    ),
    "views": (
        lambda: arguments(TRAIN) | {"splits": {"train": (np.stack([TRAIN.x] * 2), TRAIN.labels)}},
        "train has 2 views; RoIs have one",
    ),
    "ids": (lambda: arguments(TRAIN) | {"ids": {"train": np.arange(60)}}, "RoIs have no ids"),
    "missing split": (lambda: arguments(TRAIN, TEST, rois={"train": TRAIN.rois}), "there are no rois of test"),
    "other split": (lambda: arguments(TRAIN, rois={"train": TRAIN.rois, "test": TEST.rois}), "unknown split 'test'"),
}


@pytest.mark.parametrize(("make_them", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_not_written(tmp_path: Path, make_them: Callable[[], dict[str, Any]], message: str) -> None:
    given = make_them()
    with pytest.raises(InputError, match=message):
        features.write(tmp_path / "f.h5", **given)
    assert list(tmp_path.iterdir()) == []


def test_an_image_without_any_roi_and_one_full_of_them(tmp_path: Path) -> None:
    labels = np.array([-1] * PER_IMAGE + [C] * PER_IMAGE)
    made = replace(make(2), labels=labels, num_rois=np.array([0, PER_IMAGE]))
    file = features.open(features.write(tmp_path / "f.h5", **arguments(made)))
    assert file["train"].images.num_rois.tolist() == [0, PER_IMAGE]
    assert file.classes.train_counts.tolist() == [0, 0, 0]


EVERYTHING = [
    *("train/labels", "train/boxes", "train/iou", "test/labels", "train/labels_crc32", "train/iou_crc32"),
    *("train/image_index", "train/images/ids", "train/images/heights", "test/images/widths", "test/images/num_rois"),
    *("classes/image_counts", "classes/train_counts", "regressor/weight", "regressor/bias", "classifier/weight"),
]


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("byte", [0, 1])
def test_a_flipped_bit_is_found(copy: Path, name: str, byte: int) -> None:
    flip(copy, offset_of(copy, name) + byte)
    with pytest.raises(InputError, match=r"copy\.h5"):
        read_all(copy)


def test_another_frequency_is_found(copy: Path) -> None:
    with copy.open("r+b") as file:
        file.seek(offset_of(copy, "classes/frequency"))
        file.write(b"c")
    with pytest.raises(InputError, match=r"copy\.h5 is damaged"):
        features.open(copy)


def read_all(path: Path) -> None:
    file = features.open(path)
    for name in file.splits:
        part = file[name]
        for array in (part.features, part.boxes, part.ious):
            array[:]


def test_a_damaged_block_is_named_and_the_others_are_read(copy: Path) -> None:
    flip(copy, offset_of(copy, "train/boxes") + 25 * 16)
    boxes = features.open(copy)["train"].boxes
    np.testing.assert_array_equal(boxes[:24], TRAIN.boxes[:24])
    with pytest.raises(InputError, match=r"train boxes of rows 24\.\.35 do not match their checksum") as caught:
        boxes[25]
    assert caught.value.hint
    np.testing.assert_array_equal(boxes[36:], TRAIN.boxes[36:])


def test_damaged_labels_are_named(copy: Path) -> None:
    flip(copy, offset_of(copy, "test/labels") + 13 * 8)
    with pytest.raises(InputError, match=r"test labels of rows 12\.\.23 do not match their checksum"):
        features.open(copy)


@pytest.mark.parametrize("attribute", [("train", "rois_per_image"), ("classes", "num_images")])
def test_a_changed_attribute_is_found(copy: Path, attribute: tuple[str, str]) -> None:
    group, name = attribute
    with h5py.File(copy, "r+") as file:
        file[group].attrs[name] = file[group].attrs[name] + PER_IMAGE
    with pytest.raises(InputError, match=r"copy\.h5"):
        features.open(copy)


def bare(path: Path, without: str = "", **changed: Any) -> Path:
    """The least that another program writes; `changed` datasets by name."""
    sets: dict[str, Any] = {
        "train/features": TRAIN.x[None],
        "train/labels": TRAIN.labels.astype(np.int16),
        "train/boxes": TRAIN.boxes,
        "train/iou": TRAIN.iou,
        "train/images/ids": TRAIN.ids,
        "train/images/heights": np.full(10, 480),
        "train/images/widths": np.full(10, 640),
        "classes/image_counts": IMAGE_COUNTS,
    } | {name.replace("__", "/"): value for name, value in changed.items()}
    with h5py.File(path, "w") as file:
        file.attrs["format"] = np.bytes_("gol-decouple features")
        file.attrs["version"] = 1
        for name, value in sets.items():
            if name != without and value is not None:
                file[name] = value
        if without != "rois_per_image":
            file["train"].attrs["rois_per_image"] = PER_IMAGE
        if without != "num_images":
            file.require_group("classes").attrs["num_images"] = NUM_IMAGES
    return path


def test_the_least_that_another_program_writes(tmp_path: Path) -> None:
    file = features.open(bare(tmp_path / "f.h5"))
    assert file.is_detection
    assert not file.checked
    assert file.classes.names == ["class 0", "class 1", "class 2"]
    assert file.classes.frequency is not None
    assert file.classes.frequency.tolist() == ["f", "c", "r"]
    np.testing.assert_array_equal(file["train"].boxes[5:9], TRAIN.boxes[5:9])
    np.testing.assert_array_equal(file["train"].images.num_rois, TRAIN.num_rois)


@pytest.mark.parametrize("chunks", [(7, 2), None])
@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_boxes_that_hdf5_has_to_unpack(tmp_path: Path, chunks: tuple[int, int] | None, dtype: str) -> None:
    path = bare(tmp_path / "f.h5")
    with h5py.File(path, "r+") as file:
        del file["train/boxes"], file["train/iou"]
        pack = {"compression": "gzip"} if chunks else {}
        file.create_dataset("train/boxes", data=TRAIN.boxes.astype(dtype), chunks=chunks, **pack)
        file.create_dataset("train/iou", data=TRAIN.iou.astype(dtype), chunks=chunks and chunks[:1], **pack)
    part = features.open(path)["train"]
    np.testing.assert_array_equal(part.boxes[3:50, 1], TRAIN.boxes[3:50, 1])
    np.testing.assert_array_equal(part.ious[[4, 40]], TRAIN.iou[[4, 40]])


@pytest.mark.parametrize(
    "part",
    [
        *("train/labels", "train/iou", "train/images/ids", "train/images/heights", "train/images/widths"),
        *("classes/image_counts", "rois_per_image", "num_images"),
    ],
)
def test_each_part_of_the_least_is_needed(tmp_path: Path, part: str) -> None:
    with pytest.raises(InputError, match=Path(part).name) as caught:
        features.open(bare(tmp_path / "f.h5", without=part))
    assert "f.h5" in caught.value.message


def holed() -> np.ndarray:
    labels = TRAIN.labels.copy()
    labels[54] = -1
    return labels


READ: dict[str, tuple[dict[str, Any], str]] = {
    "label": ({"train__labels": np.full(60, 4)}, r"train labels: label 4 is outside -1\.\.3"),
    "hole": ({"train__labels": holed()}, r"train labels: rows 54\.\.59"),
    "labels": ({"train__labels": TRAIN.labels[1:]}, r"train/labels of int64 \[59\], expected \[60\]"),
    "float labels": ({"train__labels": TRAIN.labels.astype(float)}, "has train/labels of float64"),
    "boxes": ({"train__boxes": TRAIN.boxes[:, :2]}, r"has train/boxes of float32 \[60, 2\], expected \[60, 4\]"),
    "double boxes": ({"train__boxes": TRAIN.boxes.astype(float)}, "has train/boxes of float64, expected float32"),
    "backward boxes": ({"train__boxes": TRAIN.boxes[:, ::-1]}, "f.h5: train boxes of row 0 are .*expected x1, y1"),
    "iou": ({"train__iou": TRAIN.iou + 1}, "f.h5: train iou of row 0 are"),
    "NaN iou": ({"train__iou": TRAIN.iou * np.nan}, "f.h5: train iou of row 0 hold NaN or infinity"),
    "num_rois": ({"train__images__num_rois": TRAIN.num_rois - 1}, "num_rois that are not how many train rows"),
    "image_index": ({"train__image_index": np.arange(60) // 5}, "image_index that are not the images of its rows"),
    "train_counts": ({"classes__train_counts": [1, 2, 3]}, "train_counts that are not the counts"),
    "images": ({"train__images__ids": np.arange(9)}, "60 train features, but 9 ids, 10 heights and 10 widths"),
    "image twice": ({"train__images__ids": np.zeros(10, int)}, "image 0 is twice among the train images"),
    "width": ({"train__images__widths": np.full(10, -1)}, "train image 0 has width -1"),
    "views": ({"train__features": np.stack([TRAIN.x] * 2)}, "has 2 views of RoIs in train, which have one"),
    "image_counts": ({"classes__image_counts": [500, 1, 1]}, "image_counts are 1 to 500 for 160 annotated images"),
    "frequency": ({"classes__frequency": np.array([b"r", b"x", b"c"])}, "frequency 'x' is none of r, c, f"),
    "frequencies": ({"classes__frequency": np.array([b"r"])}, "image_counts of 3 classes, but frequency of 1"),
    "names": ({"classes__names": np.array([b"r"])}, "has 1 class names, but image_counts of 3 classes"),
    "classifier": (
        {"classifier__weight": WEIGHT[:C], "classifier__bias": BIAS[:C]},
        r"a classifier of \[3, 8\] and \[3\], but 3 classes and background and features of size 8",
    ),
    "regressor": (
        {"regressor__weight": np.ones((2, 4, D)), "regressor__bias": np.ones((2, 4))},
        r"the box regressor is \[2, 4, 8\]",
    ),
}


@pytest.mark.parametrize(("changes", "message"), READ.values(), ids=READ)
def test_what_cannot_be_is_not_read(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = bare(tmp_path / "f.h5", **changes)
    with pytest.raises(InputError, match=message) as caught:
        read_all(path)
    assert str(path) in caught.value.message


def test_blocks_of_part_of_an_image_are_refused(tmp_path: Path) -> None:
    path = bare(tmp_path / "f.h5")
    with h5py.File(path, "r+") as file:
        file["train"].attrs["rows_per_block"] = PER_IMAGE + 1
    with pytest.raises(InputError, match="has blocks of 7 rows in train, which are not whole images"):
        features.open(path)


def test_boxes_in_one_split_only_are_refused(tmp_path: Path) -> None:
    path = bare(tmp_path / "f.h5", test__features=TEST.x[None], test__labels=TEST.labels)
    with pytest.raises(InputError, match="has boxes in some of its splits only"):
        features.open(path)


@pytest.mark.parametrize("value", [np.ones((4, 1)), np.array([b"a"] * 4), np.array([1.0, 1.0, 1.0])])
def test_strange_coder_weights(copy: Path, value: np.ndarray) -> None:
    with h5py.File(copy, "r+") as file:
        file["regressor"].attrs["coder_weights"] = value
    with pytest.raises(InputError, match="coder_weights"):
        features.open(copy)
