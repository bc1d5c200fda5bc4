"""Extraction: the features are those of the frozen backbone, and interrupting it changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gol_decouple import features
from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.config import load_config
from gol_decouple.data import Dataset, load_data
from gol_decouple.data.transforms import Normalise
from gol_decouple.features import layout, writer
from gol_decouple.features.extract import extract
from gol_decouple.settings import Config


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


def test_interrupted_extraction_continues_to_the_same_bytes(
    tmp_path: Path, parts: tuple[ImageClassifier, Dataset, Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data, config = parts
    monkeypatch.setattr(layout, "BLOCK_BYTES", 16 * 64 * 2)  # blocks of 16 rows
    extract(model, data, config, tmp_path / "whole.h5")
    written = []
    real_write = writer.FeatureWriter.write

    def stop_at_the_fourth(self: writer.FeatureWriter, block: layout.Block, rows: np.ndarray) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(block)
        real_write(self, block, rows)

    with monkeypatch.context() as patch:
        patch.setattr(writer.FeatureWriter, "write", stop_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            extract(model, data, config, tmp_path / "parts.h5")
    assert not (tmp_path / "parts.h5").exists()

    def not_again(self: writer.FeatureWriter, block: layout.Block, rows: np.ndarray) -> None:
        assert block not in written
        real_write(self, block, rows)

    monkeypatch.setattr(writer.FeatureWriter, "write", not_again)
    extract(model, data, config, tmp_path / "parts.h5")
    assert (tmp_path / "parts.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert len(written) == 3
