"""Checkpoints in the field's layouts load; what is no checkpoint, does not fit, or would run code is refused."""

from __future__ import annotations

import argparse
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.backbones.checkpoints import load_checkpoint
from gol_decouple.errors import InputError

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def source() -> ImageClassifier:
    """A model with weights and statistics of its own."""
    model = build_model("resnet32", 5, seed=1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
    return model


def parts(model: ImageClassifier) -> tuple[Weights, Weights]:
    return model.backbone.state_dict(), model.classifier.state_dict()


def behind(prefix: str, weights: Weights) -> Weights:
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def save_contiguous(weights: Weights, path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)


LAYOUTS = {
    "ours": lambda b, c: behind("backbone.", b) | behind("classifier.", c),
    "our training state": lambda b, c: {
        "epochs_done": 3,
        "model": behind("backbone.", b) | behind("classifier.", c),
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}},
    },
    "torchvision": lambda b, c: b | behind("fc.", c),
    "akamaster": lambda b, c: {"state_dict": behind("module.", b | behind("linear.", c)), "best_prec1": 92.6},
    "timm": lambda b, c: {"model": b | behind("head.", c)},
    "classifier-balancing": lambda b, c: {
        "state_dict_best": {"feat_model": behind("module.", b), "classifier": behind("module.fc.", c)},
        "best_acc": np.float64(49.9),
    },
    "MiSLAS": lambda b, c: {
        "state_dict_model": behind("module.", b),
        "state_dict_classifier": behind("module.fc.", c),
        "best_acc1": torch.tensor(47.0),
    },
    "with its arguments": lambda b, c: {
        "state_dict": b | behind("classifier.", c),
        "args": argparse.Namespace(lr=0.1, data="/data"),
        "acc": np.float32(3.0),
    },
    "before PyTorch 0.4.1": lambda b, c: {n: t for n, t in b.items() if "num_batches" not in n} | behind("fc.", c),
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_layouts_of_the_field(tmp_path: Path, source: ImageClassifier, layout: str) -> None:
    path = tmp_path / "model.pth"
    torch.save(LAYOUTS[layout](*parts(source)), path)
    model = build_model("resnet32", 5, seed=2)
    match = load_checkpoint(model, path)
    wanted = {name: tensor for name, tensor in source.state_dict().items() if "num_batches" not in name}
    found = model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert match.has_classifier
    assert match.unused == []


def test_safetensors_and_legacy_files(tmp_path: Path, source: ImageClassifier) -> None:
    save_contiguous(source.state_dict(), tmp_path / "model.safetensors")
    torch.save(source.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        model = build_model("resnet32", 5, seed=2)
        load_checkpoint(model, path)
        assert torch.equal(model.classifier.weight, source.classifier.weight)


def test_a_classifier_for_other_classes_is_left_out_and_that_is_said(tmp_path: Path, source: ImageClassifier) -> None:
    backbone, classifier = parts(source)
    torch.save({"state_dict": behind("module.", backbone | behind("linear.", classifier))}, tmp_path / "a.pth")
    model = build_model("resnet32", 7, seed=2)
    before = model.classifier.weight.clone()
    match = load_checkpoint(model, tmp_path / "a.pth")
    assert not match.has_classifier
    assert torch.equal(model.classifier.weight, before)
    assert torch.equal(model.backbone.conv1.weight, source.backbone.conv1.weight)
    assert "state_dict.module.linear.weight is [5, 64], not [7, 64]: left out" in match.table()
    assert match.unused == ["state_dict.module.linear.weight", "state_dict.module.linear.bias"]


def test_the_best_of_a_run_counts_before_its_last(tmp_path: Path, source: ImageClassifier) -> None:
    backbone, _ = parts(source)
    last = {name: torch.zeros_like(tensor) for name, tensor in backbone.items()}
    torch.save({"state_dict": last, "state_dict_best": backbone}, tmp_path / "a.pth")
    model = build_model("resnet32", 5, seed=2)
    load_checkpoint(model, tmp_path / "a.pth")
    assert torch.equal(model.backbone.conv1.weight, backbone["conv1.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.pop("layer2.1.bn1.weight"), r"1 tensors of the backbone are missing \(layer2.1.bn1.weight\)"),
        (
            lambda b: b.update({"conv1.weight": torch.zeros(16, 1, 3, 3)}),
            r"1 have another shape \(conv1.weight is \[16, 1, 3, 3\], the backbone's \[16, 3, 3, 3\]\)",
        ),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused_and_nothing_is_loaded(
    tmp_path: Path, source: ImageClassifier, change: object, message: str
) -> None:
    backbone = dict(parts(source)[0])
    change(backbone)
    torch.save(backbone, tmp_path / "a.pth")
    model = build_model("resnet32", 5, seed=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(model, tmp_path / "a.pth")
    assert "backbone.name" in (error.value.hint or "")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class RunsCode:
    """Unpickled, it would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_code_is_refused_by_name_and_never_run(tmp_path: Path, source: ImageClassifier) -> None:
    torch.save({"state_dict": source.state_dict(), "extra": RunsCode(tmp_path / "proof")}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="needs code to be read, which is refused: .*system"):
        load_checkpoint(source, tmp_path / "a.pth")
    torch.save(source, tmp_path / "module.pth")
    with pytest.raises(InputError, match="refused: .*ImageClassifier"):
        load_checkpoint(source, tmp_path / "module.pth")
    assert not (tmp_path / "proof").exists()


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path, source: ImageClassifier) -> None:
    torch.save({"weight": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.pth").stat().st_size < 10_000
    with pytest.raises(InputError, match="unpacks from .* to 4,000,000 bytes, and torch never compresses"):
        load_checkpoint(source, tmp_path / "bomb.pth")


def test_a_tensor_that_claims_more_than_it_holds_is_refused(tmp_path: Path, source: ImageClassifier) -> None:
    torch.save({"weight": torch.zeros(1).expand(10**10)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="weight claims 10,000,000,000 values it does not hold"):
        load_checkpoint(source, tmp_path / "a.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", ["truncated", "empty", "text"])
def test_damaged_files(tmp_path: Path, source: ImageClassifier, suffix: str, content: str) -> None:
    path = tmp_path / f"a.{suffix}"
    save = torch.save if suffix == "pth" else save_contiguous
    save(source.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello world"}[content])
    with pytest.raises(InputError, match=f"{path} is not a readable"):
        load_checkpoint(source, path)


def test_a_flipped_bit_of_a_tensor_is_refused(tmp_path: Path, source: ImageClassifier) -> None:
    torch.save(source.state_dict(), tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    at = content.index(source.classifier.weight.detach().numpy().tobytes())
    content[at + 3] ^= 64
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pth is damaged: a/data/\d+ is not what its checksum says") as caught:
        load_checkpoint(source, tmp_path / "a.pth")
    assert caught.value.hint is not None
    assert "sha256" in caught.value.hint


def test_a_damaged_table_of_contents_is_refused(tmp_path: Path, source: ImageClassifier) -> None:
    torch.save(source.state_dict(), tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    content[content.rindex(b"PK\x01\x02")] ^= 1
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pth is damaged: its table of contents is not what its checksum says"):
        load_checkpoint(source, tmp_path / "a.pth")


def test_a_file_written_without_checksums_is_loaded(tmp_path: Path, source: ImageClassifier) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(source.state_dict(), tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert load_checkpoint(source, tmp_path / "a.pth").has_classifier


def test_files_without_weights(tmp_path: Path, source: ImageClassifier) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_checkpoint(source, tmp_path / "none.pth")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds no tensors"):
        load_checkpoint(source, tmp_path / "list.pth")


def test_a_real_foreign_checkpoint(real_data: Path) -> None:
    path = real_data / "weights" / "akamaster_cifar10_resnet32-d509ac18.th"
    match = load_checkpoint(build_model("resnet32", 10, seed=0), path)
    assert match.has_classifier
    assert match.unused == []
    assert not load_checkpoint(build_model("resnet32", 100, seed=0), path).has_classifier


def test_dicts_without_an_end_are_refused(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "endless.pth")
    with pytest.raises(InputError, match="nested without an end"):
        load_checkpoint(build_model("resnet32", 10, seed=0), tmp_path / "endless.pth")
