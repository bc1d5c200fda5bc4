"""Batches: every image under its key, equal in any process; and errors that keep their words on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gol_decouple.data import Dataset, Split
from gol_decouple.data.images import ImageFiles
from gol_decouple.data.loading import (
    EPOCH,
    VIEW,
    Batches,
    EpochKeys,
    Key,
    _Images,
    by_factors,
    by_labels,
    check_sizes,
    clean_keys,
)
from gol_decouple.distributed import World
from gol_decouple.errors import InputError
from gol_decouple.settings import TransformConfig

ALL = TransformConfig(crop_padding=4, flip=True, auto_augment="cifar10", cutout=8)
PLAIN = TransformConfig()


def noise(count: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def split(images: np.ndarray) -> Split:
    return Split(images, np.arange(len(images)), np.arange(len(images)))


def one_image(times: int) -> Split:
    return split(noise(1).repeat(times, axis=0))


def in_files(root: Path, images: list[np.ndarray]) -> Split:
    names = [f"{i}.png" for i in range(len(images))]
    for name, pixels in zip(names, images, strict=True):
        Image.fromarray(pixels).save(root / name)
    return Split(ImageFiles(root, names), np.arange(len(names)), np.arange(len(names)))


def pass_over(batches: Batches) -> tuple[list[list[int]], InputError | None]:
    """The labels of the batches that come, and the error that they end in.

    Without its traceback, which would keep the loader, and so its worker processes, alive in a reference cycle.
    """
    seen: list[list[int]] = []
    try:
        seen.extend(labels.tolist() for _, labels in batches)
    except InputError as error:
        return seen, error.with_traceback(None)
    return seen, None


# Keys


def test_augmentation_is_drawn_for_each_key() -> None:
    data = _Images(one_image(8), ALL, seed=0)
    keys = [Key(image, (EPOCH, epoch, image)) for epoch in range(2) for image in range(8)]
    keys += [Key(image, (VIEW, 1, image)) for image in range(8)]
    assert len({data[key][0].numpy().tobytes() for key in keys}) == 24


def test_augmentation_depends_on_nothing_but_its_key() -> None:
    data, key = _Images(one_image(4), ALL, seed=0), Key(2, (EPOCH, 3, 2))
    first = data[key][0]
    torch.manual_seed(99)
    data[Key(0, (EPOCH, 0, 0))]
    assert torch.equal(first, data[key][0])
    assert torch.equal(first, data[Key(1, key.draw)][0]), "the image is the same: so is the draw"
    assert not torch.equal(first, _Images(one_image(4), ALL, seed=1)[key][0])


def test_loading_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    _Images(one_image(1), ALL, seed=0)[Key(0, (EPOCH, 0, 0))]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_key_without_a_draw_is_the_clean_view() -> None:
    image, label = _Images(split(noise(3)), ALL, seed=0)[Key(2)]
    np.testing.assert_array_equal(image.numpy(), noise(3)[2])
    assert label == 2


def test_an_epoch_visits_every_image_once_in_another_order() -> None:
    keys = EpochKeys(by_labels(np.zeros(10, np.int64), 0), 4)
    first = list(keys)
    assert list(keys) == first
    keys.epoch = 1
    second = list(keys)
    assert [len(batch) for batch in first] == [len(batch) for batch in second] == [4, 4, 2]
    assert len(keys) == 3
    for epoch, batches in enumerate((first, second)):
        drawn = [key for batch in batches for key in batch]
        assert sorted(key.image for key in drawn) == list(range(10))
        assert [key.draw for key in drawn] == [(EPOCH, epoch, position) for position in range(10)]
    assert [key.image for batch in first for key in batch] != [key.image for batch in second for key in batch]


def test_an_epochs_order_is_that_of_the_seed() -> None:
    orders = [
        [key.image for batch in EpochKeys(by_labels(np.zeros(10, np.int64), seed), 4) for key in batch]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_a_class_balanced_epoch_augments_an_image_anew_each_time_it_is_drawn() -> None:
    labels = np.array([0] * 10 + [1] * 2)
    keys = EpochKeys(by_labels(labels, 0, "class_balanced"), 5)
    assert [len(batch) for batch in keys] == [5, 5, 2]
    drawn = [key for batch in keys for key in batch]
    assert np.bincount([labels[key.image] for key in drawn]).tolist() == [6, 6]
    assert np.bincount([key.image for key in drawn])[10:].tolist() == [3, 3]
    data = _Images(Split(noise(12), labels, np.arange(12)), ALL, seed=0)
    for image in (10, 11):
        assert len({data[key][0].numpy().tobytes() for key in drawn if key.image == image}) == 3
    keys.epoch = 1
    assert [key.image for batch in keys for key in batch] != [key.image for key in drawn]


def test_an_epoch_of_factors_repeats_images_and_draws_each_visit() -> None:
    keys = EpochKeys(by_factors(torch.tensor([1.0, 2.0, 3.5]), 0), 4, least=1)
    lengths = set()
    for epoch in range(20):
        keys.epoch = epoch
        drawn = [key for batch in keys for key in batch]
        counts = np.bincount([key.image for key in drawn], minlength=3)
        assert counts[:2].tolist() == [1, 2]
        assert counts[2] in (3, 4)
        assert [key.draw for key in drawn] == [(EPOCH, epoch, position) for position in range(len(drawn))]
        assert keys.images == len(drawn)
        assert len(keys) == len(list(keys)) == 2
        lengths.add(len(drawn))
    assert lengths == {6, 7}


@pytest.mark.parametrize(("steps", "images"), [(1, [4, 0, 0]), (3, [10, 0, 0]), (5, [10, 8, 0]), (99, [10, 10, 10])])
def test_steps_end_after_max_steps(steps: int, images: list[int]) -> None:
    whole = EpochKeys(by_labels(np.zeros(10, np.int64), 0), 4)
    keys = EpochKeys(by_labels(np.zeros(10, np.int64), 0), 4, max_steps=steps)
    for epoch, wanted in enumerate(images):
        whole.epoch = keys.epoch = epoch
        assert keys.images == wanted
        batches = list(keys)
        assert batches == list(whole)[: len(batches)]
        assert sum(len(batch) for batch in batches) == wanted
        assert [part.step_images for part in keys.passes()] == [len(batch) for batch in batches]
        assert len(keys) == 3, "the learning rate's schedule is that of the whole"


@pytest.mark.parametrize(("size", "passes", "max_steps"), [(1, 1, None), (1, 2, 5), (2, 2, None), (2, 1, 4)])
def test_an_epoch_begins_at_any_of_its_steps(size: int, passes: int, max_steps: int | None) -> None:
    for rank in range(size):
        keys = EpochKeys(by_labels(np.zeros(11, np.int64), 0), 4, passes, World(rank, size), 1, max_steps)
        for keys.epoch in range(2):
            keys.step = 0
            whole, parts, images, steps = list(keys), list(keys.passes()), keys.images, len(keys)
            for keys.step in range(steps + 1):
                skipped = sum(part.step < keys.step for part in parts)
                assert list(keys) == whole[skipped:]
                assert list(keys.passes()) == parts[skipped:]
                assert (keys.images, len(keys)) == (images, steps), "of the whole epoch"


def test_a_pass_has_the_images_that_the_model_needs() -> None:
    def passes(least: int) -> list[int]:
        keys = EpochKeys(by_labels(np.zeros(6, np.int64), 0), 6, passes=6, least=least)
        return [len(batch) for batch in keys]

    assert passes(2) == [2, 2, 2]
    assert passes(1) == [1] * 6


def test_clean_keys_are_batches_in_the_order_asked_for() -> None:
    assert clean_keys([3, 1, 2, 0, 4], 2) == [[Key(3), Key(1)], [Key(2), Key(0)], [Key(4)]]
    assert clean_keys([], 2) == []


# Batches


def test_batches_are_images_and_their_labels() -> None:
    (first, labels), (last, _) = Batches(split(noise(3, 5, 7)), PLAIN, clean_keys([2, 0, 1], 2), seed=0, workers=0)
    assert first.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert labels.tolist() == [2, 0]
    np.testing.assert_array_equal(first.numpy(), noise(3, 5, 7)[[2, 0]])
    np.testing.assert_array_equal(last.numpy(), noise(3, 5, 7)[[1]])


def test_files_come_as_arrays_do(tmp_path: Path) -> None:
    keys = clean_keys(range(3), 2)
    transform = TransformConfig(size=6)
    from_files = list(Batches(in_files(tmp_path, list(noise(3, 5, 7))), transform, keys, seed=0, workers=0))
    from_array = list(Batches(split(noise(3, 5, 7)), transform, keys, seed=0, workers=0))
    for (ours, labels), (theirs, their_labels) in zip(from_files, from_array, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(labels, their_labels)


def test_batches_are_equal_in_any_number_of_processes() -> None:
    def two_epochs(workers: int) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
        keys = EpochKeys(by_labels(np.zeros(11, np.int64), 3), 4)
        batches = Batches(split(noise(11, 8, 8)), ALL, keys, seed=3, workers=workers)
        first = list(batches)
        keys.epoch = 1
        return [first, list(batches)]

    alone = two_epochs(0)
    assert [len(epoch) for epoch in alone] == [3, 3]
    assert not torch.equal(alone[0][0][1], alone[1][0][1]), "the second epoch has an order of its own"
    for workers in (1, 2):
        for ours, theirs in zip(two_epochs(workers), alone, strict=True):
            for (images, labels), (their_images, their_labels) in zip(ours, theirs, strict=True):
                assert torch.equal(images, their_images)
                assert torch.equal(labels, their_labels)


# Errors


def test_images_of_different_sizes_are_refused_unless_they_are_resized(tmp_path: Path) -> None:
    same = Dataset("a", ["a"], {"train": split(noise(2, 4, 6)), "test": split(noise(1, 4, 6))})
    check_sizes(same, PLAIN)
    files = in_files(tmp_path, [noise(1, height, 5)[0] for height in (9, 4, 10, 5)])
    for test, sizes in ((split(noise(1, 6, 4)), "4x6, 6x4"), (files, "4x5, 4x6, 5x5 and 2 more")):
        mixed = Dataset("a", ["a"], {"train": split(noise(2, 4, 6)), "test": test})
        with pytest.raises(InputError) as error:
            check_sizes(mixed, PLAIN)
        assert error.value.message == f"images differ in size: {sizes}"
        assert error.value.hint == "--set transform.size=64 resizes them all"
        check_sizes(mixed, TransformConfig(size=4))


@pytest.mark.parametrize("workers", [0, 1])
def test_sizes_that_differ_only_once_images_stand_upright_are_refused_in_their_batch(
    tmp_path: Path, workers: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    images = in_files(tmp_path, list(noise(3, 4, 6)))
    Image.fromarray(noise(1, 4, 6)[0]).save(tmp_path / "1.png", exif=exif)
    check_sizes(Dataset("a", ["a"], {"train": images}), PLAIN)
    seen, error = pass_over(Batches(images, PLAIN, clean_keys(range(3), 3), seed=0, workers=workers))
    assert seen == []
    assert isinstance(error, InputError)
    assert error.message == "images differ in size: 4x6, 6x4"
    assert error.hint == "--set transform.size=64 resizes them all"
    (batch,) = Batches(images, TransformConfig(size=5), clean_keys(range(3), 3), seed=0, workers=workers)
    assert batch[0].shape == (3, 5, 5, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_decoded_is_named_whatever_process_found_it(tmp_path: Path, workers: int) -> None:
    images = in_files(tmp_path, list(noise(6, 16, 16)))
    whole = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4.png").write_bytes(whole[: len(whole) // 2])
    keys = [[Key(image, (EPOCH, 0, image)) for image in batch] for batch in ([0, 1], [2, 3], [4, 5])]
    batches = Batches(images, ALL, keys, seed=0, workers=workers)
    before, error = pass_over(batches)
    assert before == [[0, 1], [2, 3]]
    assert isinstance(error, InputError)
    assert error.message.startswith(f"{tmp_path / '4.png'} cannot be decoded: image file is truncated")
    assert "\n" not in error.message
    assert error.hint == "replace the file, or remove it"
    (tmp_path / "4.png").write_bytes(whole)
    assert pass_over(batches) == ([[0, 1], [2, 3], [4, 5]], None)
