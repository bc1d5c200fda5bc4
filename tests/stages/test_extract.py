"""Extraction: the features are those of the frozen backbone, of every view, and interrupting it changes nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunCli
from safetensors.torch import load_file

from gol_decouple import features
from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.config import load_config
from gol_decouple.data import Dataset, load_data
from gol_decouple.data.loading import VIEW
from gol_decouple.data.transforms import Augmentation, Normalise
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.features import FeaturesFile, layout, writer
from gol_decouple.features.extract import check_views, extract
from gol_decouple.features.writer_thread import WAITING_BLOCKS
from gol_decouple.runtime import stream_seed
from gol_decouple.settings import Config, TransformConfig
from gol_decouple.stages.backbone import run_stage1

# Without val, a position in train would be an image's id; with full precision, comparisons can be close.
VIEWS = ["features.views=3", "data.val_fraction=0.2", "features.dtype=float32", "stage1.precision=float32"]
NO_AUGMENTATION = ["transform.flip=false", "transform.crop_padding=0"]
ROWS_OF_16 = 16 * 64 * 2  # bytes of 16 rows in float16


@pytest.fixture
def parts(finished_run: Path) -> tuple[ImageClassifier, Dataset, Config]:
    config = load_config(str(finished_run / "config.toml"))
    model = build_model(config.backbone.name, 3, seed=9)
    model.load_state_dict(load_file(finished_run / "model.safetensors"))
    return model, load_data(config.data), config


def test_rows_are_the_backbones_features_of_the_clean_images(
    finished_run: Path, parts: tuple[ImageClassifier, Dataset, Config]
) -> None:
    model, data, config = parts
    model.eval()
    file = features.open(finished_run / "features.h5")
    assert file.splits == ["train", "test"]
    for name in file.splits:
        rows = file[name]
        images = torch.from_numpy(data.splits[name].images[rows.ids])
        with torch.inference_mode():
            wanted = model.backbone(Normalise(config.transform)(images))
        np.testing.assert_allclose(rows.features[0], wanted, rtol=1e-2, atol=1e-3)
        np.testing.assert_array_equal(rows.labels, data.splits[name].labels[rows.ids])
        assert sorted(rows.ids) == list(range(len(rows)))
        assert rows.features.dtype == np.float16


def test_the_file_says_where_its_features_come_from(finished_run: Path) -> None:
    file = features.open(finished_run / "features.h5")
    assert file.classes.names == ["red", "green", "blue"]
    assert file.classes.train_counts.tolist() == [40, 21, 6]
    assert file.origin["backbone"]["name"] == "resnet32"
    assert len(file.origin["backbone"]["sha256"]) == 64
    assert file.origin["dataset"]["name"] == "colours"
    assert file.origin["dataset"]["imbalance_factor"] == pytest.approx(40 / 6)
    assert len(file.origin["dataset"]["sha256"]) == 64
    weights = load_file(finished_run / "model.safetensors")
    np.testing.assert_array_equal(file.classifier.weight, weights["classifier.weight"])
    np.testing.assert_array_equal(file.classifier.bias, weights["classifier.bias"])


def test_extraction_moves_nothing_in_the_model(tmp_path: Path, parts: tuple[ImageClassifier, Dataset, Config]) -> None:
    model, data, config = parts
    before = {name: tensor.clone() for name, tensor in model.train().state_dict().items()}
    extract(model, data, config, tmp_path / "features.h5")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.fixture
def model(parts: tuple[ImageClassifier, Dataset, Config]) -> ImageClassifier:
    return parts[0]


def with_settings(run: Path, *overrides: str) -> Config:
    return load_config(str(run / "config.toml"), overrides)


def extracted(model: ImageClassifier, config: Config, path: Path) -> FeaturesFile:
    extract(model, load_data(config.data), config, path)
    return features.open(path)


def images_at(file: FeaturesFile, data: Dataset) -> list[int]:
    """The position in the train split of each row's image."""
    positions = {image_id: position for position, image_id in enumerate(data.splits["train"].ids.tolist())}
    return [positions[image_id] for image_id in file["train"].ids.tolist()]


def share_of_rows_that_differ(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.mean(np.abs(first - second).max(axis=1) > 1e-3))


@pytest.mark.parametrize(("views", "stopped_after"), [(1, 3), (3, 7)])
def test_interrupted_extraction_continues_to_the_same_bytes(
    tmp_path: Path,
    finished_run: Path,
    model: ImageClassifier,
    monkeypatch: pytest.MonkeyPatch,
    views: int,
    stopped_after: int,
) -> None:
    config = with_settings(finished_run, f"features.views={views}")
    data = load_data(config.data)
    monkeypatch.setattr(layout, "BLOCK_BYTES", ROWS_OF_16)
    extract(model, data, config, tmp_path / "whole.h5")
    written: list[layout.Block] = []
    real_write = writer.FeatureWriter.write

    def stop(self: writer.FeatureWriter, block: layout.Block, features: np.ndarray) -> None:
        if len(written) == stopped_after:
            raise KeyboardInterrupt
        written.append(block)
        real_write(self, block, features)

    with monkeypatch.context() as patch:
        patch.setattr(writer.FeatureWriter, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            extract(model, data, config, tmp_path / "parts.h5")
    assert not (tmp_path / "parts.h5").exists()
    assert len(written) == stopped_after
    last = written[-1]
    assert (last.split, last.view) == ("train", views // 2)
    assert last.stop < 67

    def not_again(self: writer.FeatureWriter, block: layout.Block, features: np.ndarray) -> None:
        assert block not in written
        real_write(self, block, features)

    computed: list[int] = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: computed.append(len(inputs[0])))
    monkeypatch.setattr(writer.FeatureWriter, "write", not_again)
    extract(model, data, config, tmp_path / "parts.h5")
    assert (tmp_path / "parts.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert sum(computed) == views * 67 + 30 - sum(block.stop - block.start for block in written)


@pytest.mark.usefixtures("handlers_as_before")
def test_extraction_stopped_by_a_signal_loses_no_block_that_was_written(
    tmp_path: Path, small_config: Path, finished_run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "BLOCK_BYTES", ROWS_OF_16)
    written: list[layout.Block] = []
    real_write = writer.FeatureWriter.write

    def write(self: writer.FeatureWriter, block: layout.Block, features: np.ndarray) -> None:
        if len(written) == 3:  # on the writer's thread, in the middle of a block
            os.kill(os.getpid(), signal.SIGTERM)
        real_write(self, block, features)
        written.append(block)

    arguments = ["stage1", small_config, "--runs-dir", tmp_path, "--checkpoint", finished_run / "model.safetensors"]
    arguments += ["--set", "features.views=3", "--set", "stage1.num_workers=1"]
    with monkeypatch.context() as patch:
        patch.setattr(writer.FeatureWriter, "write", write)
        outcome = run_cli(*arguments)
    assert (outcome.code, outcome.out) == (143, "")
    assert outcome.err.splitlines()[-2:] == [
        "error: stopped",
        "hint: run the same command again: it continues where it was",
    ]
    log = (tmp_path / "colours" / "features.h5.partial.0.log").read_text().split("\n")
    assert len([line for line in log if line]) == len(written) >= 4, "the one that was being written is finished"
    before, total = list(written), 3 * 5 + 2
    assert len(before) < total

    def note(self: writer.FeatureWriter, block: layout.Block, features: np.ndarray) -> None:
        written.append(block)
        real_write(self, block, features)

    monkeypatch.setattr(writer.FeatureWriter, "write", note)
    assert run_cli(*arguments).code == 0
    assert len(written) == len(set(written)) == total
    monkeypatch.setattr(writer.FeatureWriter, "write", real_write)
    assert run_cli(*arguments, "--name", "whole").code == 0
    paths = [tmp_path / name / "features.h5" for name in ("colours", "whole")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


# Views


def test_only_train_has_several_views_and_the_first_is_the_clean_one(
    tmp_path: Path, finished_run: Path, model: ImageClassifier
) -> None:
    three = extracted(model, with_settings(finished_run, *VIEWS), tmp_path / "three.h5")
    one = extracted(model, with_settings(finished_run, *VIEWS, "features.views=1"), tmp_path / "one.h5")
    assert {name: three[name].features.shape for name in three.splits} == {
        "train": (3, 54, 64),
        "val": (1, 13, 64),
        "test": (1, 30, 64),
    }
    for name in three.splits:
        np.testing.assert_array_equal(three[name].features[0], one[name].features[0])
        np.testing.assert_array_equal(three[name].ids, one[name].ids)
        np.testing.assert_array_equal(three[name].labels, one[name].labels)


def test_the_other_views_are_features_of_augmented_images(
    tmp_path: Path, finished_run: Path, model: ImageClassifier
) -> None:
    config = with_settings(finished_run, *VIEWS, "features.seed=5")
    data = load_data(config.data)
    file = extracted(model, config, tmp_path / "features.h5")
    order = images_at(file, data)
    assert order != file["train"].ids.tolist()
    augment, images = Augmentation(config.transform), data.splits["train"].images
    for view in (1, 2):
        pixels = np.stack([augment(images[image], stream_seed(5, VIEW, view, image)) for image in order])
        with torch.inference_mode():
            wanted = model.backbone(Normalise(config.transform)(torch.from_numpy(pixels)))
        np.testing.assert_allclose(file["train"].features[view], wanted, rtol=1e-4, atol=1e-5)


def test_views_differ_from_each_other(tmp_path: Path, finished_run: Path, model: ImageClassifier) -> None:
    views = extracted(model, with_settings(finished_run, *VIEWS), tmp_path / "features.h5")["train"].features[:]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert share_of_rows_that_differ(views[first], views[second]) > 0.8


def test_another_seed_gives_other_views_of_the_same_images(
    tmp_path: Path, finished_run: Path, model: ImageClassifier
) -> None:
    first, other = (
        extracted(model, with_settings(finished_run, *VIEWS, f"features.seed={seed}"), tmp_path / f"{seed}.h5")["train"]
        for seed in (0, 1)
    )
    assert first.ids.tolist() != other.ids.tolist()
    views, other_views = (split.features[:, np.argsort(split.ids)] for split in (first, other))
    np.testing.assert_allclose(views[0], other_views[0], rtol=1e-4, atol=1e-5)
    for view in (1, 2):
        assert share_of_rows_that_differ(views[view], other_views[view]) > 0.8


def test_worker_processes_change_no_byte(tmp_path: Path, finished_run: Path, model: ImageClassifier) -> None:
    for workers in (0, 2):
        config = with_settings(finished_run, *VIEWS, f"stage1.num_workers={workers}", "features.batch_size=20")
        extract(model, load_data(config.data), config, tmp_path / f"{workers}.h5")
    assert (tmp_path / "0.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_the_batch_size_changes_no_feature(
    tmp_path: Path, finished_run: Path, model: ImageClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "BLOCK_BYTES", 2 * ROWS_OF_16)  # rows of float32 are twice as long
    large, small = (
        extracted(model, with_settings(finished_run, *VIEWS, f"features.batch_size={size}"), tmp_path / f"{size}.h5")
        for size in (64, 7)
    )
    for name in large.splits:
        np.testing.assert_array_equal(large[name].ids, small[name].ids)
        np.testing.assert_allclose(large[name].features[:], small[name].features[:], rtol=1e-4, atol=1e-5)


def test_views_without_an_augmentation_are_refused_before_any_work(
    tmp_path: Path, finished_run: Path, model: ImageClassifier
) -> None:
    config = with_settings(finished_run, "features.views=2", *NO_AUGMENTATION)
    refusal = "features.views = 2, but the transform has no augmentation"
    with pytest.raises(InputError, match=refusal):
        extract(model, load_data(config.data), config, tmp_path / "features.h5")
    missing = with_settings(finished_run, "features.views=2", *NO_AUGMENTATION, f"data.path={tmp_path / 'none.npz'}")
    with pytest.raises(InputError, match=refusal):
        run_stage1(missing, tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "augmentation",
    [
        {"flip": True},
        {"crop_padding": 1},
        {"random_resized_crop": True, "size": 8},
        {"auto_augment": "svhn"},
        {"cutout": 2},
    ],
)
def test_any_augmentation_makes_views_differ(finished_run: Path, augmentation: dict[str, object]) -> None:
    config = with_settings(finished_run, "features.views=2")
    check_views(config.model_copy(update={"transform": TransformConfig(**augmentation)}))
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    augment = Augmentation(TransformConfig(**augmentation))
    assert any(not np.array_equal(augment(image, seed), image) for seed in range(20))


def test_without_augmentation_one_view_is_enough(finished_run: Path) -> None:
    check_views(with_settings(finished_run, "features.views=1", *NO_AUGMENTATION))
    with pytest.raises(InputError, match="features.views = 3"):
        check_views(with_settings(finished_run, "features.views=3", *NO_AUGMENTATION, "transform.size=8"))


@pytest.mark.parametrize(("views", "message"), [(0, "greater than 0"), (1001, "less than or equal to 1000")])
def test_a_number_of_views_that_cannot_be_is_refused(finished_run: Path, views: int, message: str) -> None:
    with pytest.raises(InputError, match=f"--set features.views={views}: input should be {message}"):
        with_settings(finished_run, f"features.views={views}")


# Errors


@pytest.mark.parametrize(
    "error", [InputError("rows overflow"), EnvironmentFailure("the disk is full")], ids=["input", "disk"]
)
@pytest.mark.parametrize("at", [2, 7])
def test_an_error_on_the_writers_thread_comes_up_and_nothing_is_published(
    tmp_path: Path,
    parts: tuple[ImageClassifier, Dataset, Config],
    monkeypatch: pytest.MonkeyPatch,
    error: InputError | EnvironmentFailure,
    at: int,
) -> None:
    model, data, config = parts
    monkeypatch.setattr(layout, "BLOCK_BYTES", ROWS_OF_16)
    extract(model, data, config, tmp_path / "whole.h5")
    tried: list[layout.Block] = []
    real_write = writer.FeatureWriter.write

    def fail(self: writer.FeatureWriter, block: layout.Block, features: np.ndarray) -> None:
        tried.append(block)
        if len(tried) == at:
            raise error
        real_write(self, block, features)

    with monkeypatch.context() as patch:
        patch.setattr(writer.FeatureWriter, "write", fail)
        with pytest.raises(type(error)) as raised:
            extract(model, data, config, tmp_path / "features.h5")
    assert raised.value is error
    assert at <= len(tried) < at + WAITING_BLOCKS
    assert not (tmp_path / "features.h5").exists()

    extract(model, data, config, tmp_path / "features.h5")
    assert (tmp_path / "features.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.parametrize(
    ("broken", "where"), [(0, "train features of row 3, view 0"), (2, "train features of row 3, view 2")]
)
def test_features_that_are_no_numbers_are_refused(
    tmp_path: Path, finished_run: Path, model: ImageClassifier, broken: int, where: str
) -> None:
    config = with_settings(finished_run, "features.views=3")
    calls: list[int] = []

    def spoil(_module: object, _inputs: object, rows: torch.Tensor) -> torch.Tensor:
        calls.append(len(rows))
        if len(calls) - 1 == broken:  # a view is one batch
            rows[3, 5] = torch.nan
        return rows

    model.backbone.register_forward_hook(spoil)
    with pytest.raises(InputError, match=f"{where} hold NaN or infinity"):
        extract(model, load_data(config.data), config, tmp_path / "features.h5")
    assert calls[0] == 67
    assert not (tmp_path / "features.h5").exists()
