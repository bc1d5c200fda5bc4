"""Files of tensors in which no change goes unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gol_decouple import sealed_tensors
from gol_decouple.errors import EnvironmentFailure
from gol_decouple.sealed_tensors import SEAL

METADATA = {"format": "pt", "history": '[{"epoch": 1, "µ": "\\n"}]', "normalise": "true"}


def tensors() -> dict[str, torch.Tensor]:
    stream = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(3, 5, generator=stream),
        "running mean of ü": torch.randn(4, generator=stream, dtype=torch.float64),
        "half": torch.randn(3, generator=stream).bfloat16(),
        "count": torch.tensor(7),
        "none": torch.empty(0, 2),
        "mask": torch.tensor([True, False]),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    sealed_tensors.save(tensors(), tmp_path / "a.safetensors", METADATA)
    return tmp_path / "a.safetensors"


def assert_same(found: dict[str, torch.Tensor]) -> None:
    assert found.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name], tensor)


def test_what_is_saved_comes_back(path: Path) -> None:
    found = sealed_tensors.load(path)
    assert_same(found.tensors)
    assert found.metadata == METADATA
    assert found.is_sealed
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_plain_safetensors_reads_it(path: Path) -> None:
    assert_same(load_file(path))
    with safe_open(path, "pt") as file:
        told = file.metadata()
    assert {name: told[name] for name in METADATA} == METADATA
    assert told.keys() - METADATA.keys() == {SEAL}


def test_equal_contents_make_equal_files(path: Path, tmp_path: Path) -> None:
    """The library writes metadata in an order of chance."""
    whole = path.read_bytes()
    for _ in range(8):
        backwards = dict(reversed(tensors().items()))
        sealed_tensors.save(backwards, tmp_path / "b", dict(reversed(METADATA.items())))
        assert (tmp_path / "b").read_bytes() == whole


def test_a_view_of_a_larger_tensor_is_saved_as_what_it_shows(tmp_path: Path) -> None:
    both = torch.arange(12.0).reshape(3, 4)
    sealed_tensors.save({"row": both[1], "column": both[:, 1].clone()}, tmp_path / "a")
    found = sealed_tensors.load(tmp_path / "a").tensors
    assert found["row"].tolist() == [4, 5, 6, 7]
    assert found["column"].tolist() == [1, 5, 9]


def test_a_bit_that_is_flipped_in_any_byte_is_noticed(path: Path) -> None:
    """Or changes nothing: of the seal's own name, which makes it a file without one."""
    whole, unnoticed = path.read_bytes(), []
    for place in range(len(whole)):
        spoiled = bytearray(whole)
        spoiled[place] ^= 1 << place % 8
        path.write_bytes(spoiled)
        try:
            found = sealed_tensors.load(path)
        except ValueError:
            continue
        assert_same(found.tensors)
        assert not found.is_sealed
        unnoticed.append(place)
    name = whole.index(SEAL.encode())
    assert set(unnoticed) <= set(range(name, name + len(SEAL)))


def test_what_was_loaded_stays_whatever_becomes_of_the_file(path: Path) -> None:
    found = sealed_tensors.load(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert_same(found.tensors)


def test_every_cut_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="it is no safetensors file, or cut off"):
            sealed_tensors.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda there, told: there.update(weight=there["weight"].reshape(5, 3)),
        lambda there, told: there.update(mask=there["mask"].to(torch.uint8)),
        lambda there, told: there.update(other=there.pop("count")),
        lambda there, told: there.pop("none"),
        lambda there, told: there.update(more=torch.zeros(0)),
        lambda there, told: told.update(normalise="false"),
        lambda there, told: told.update(more="x"),
        lambda there, told: told.pop("format"),
    ],
    ids=["shape", "dtype", "name", "one less", "one more", "metadata", "more metadata", "less metadata"],
)
def test_another_content_under_the_same_seal_is_noticed(path: Path, change: object) -> None:
    with safe_open(path, "pt") as file:
        told = file.metadata()
    there = {name: tensor.clone() for name, tensor in load_file(path).items()}
    assert callable(change)
    change(there, told)
    save_file(there, path, told)
    with pytest.raises(ValueError, match="it is damaged: its checksum is not that of its content"):
        sealed_tensors.load(path)


def test_a_file_of_another_program_has_no_seal(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "a", {"format": "pt"})
    found = sealed_tensors.load(tmp_path / "a")
    assert_same(found.tensors)
    assert (found.metadata, found.is_sealed) == ({"format": "pt"}, False)
    save_file(tensors(), tmp_path / "a")
    assert sealed_tensors.load(tmp_path / "a").metadata == {}


@pytest.mark.parametrize("content", [b"", b"hello, what is this?", json.dumps(METADATA).encode()])
def test_what_is_no_safetensors_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="it is no safetensors file, or cut off"):
        sealed_tensors.load(tmp_path / "a")


def test_what_is_not_there_or_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        sealed_tensors.load(tmp_path / "a")
    with pytest.raises(ValueError, match="no safetensors file"):
        sealed_tensors.load(tmp_path)


def test_what_cannot_be_written_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealed_tensors, "save_bytes", full)
    with pytest.raises(EnvironmentFailure, match="the disk is full"):
        sealed_tensors.save({}, path)
    assert path.read_bytes() == whole
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
