"""Checksums of archives that torch.save wrote."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from gol_decouple.zip_files import damaged_entry

TREE = {"weight": torch.arange(600.0).reshape(20, 30), "step": 3, "more": {"bias": torch.ones(7, dtype=torch.int64)}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save(TREE, tmp_path / "saved.pt")
    return tmp_path / "saved.pt"


def flipped(path: Path, at: int, bit: int = 0) -> Path:
    """A copy of a file with one bit turned."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    other = path.with_name("flipped.pt")
    other.write_bytes(content)
    return other


def test_what_is_whole_is_whole(saved: Path) -> None:
    assert damaged_entry(saved) is None


def test_a_flipped_bit_is_found_in_the_entry_that_has_it(saved: Path) -> None:
    content = saved.read_bytes()
    weights = content.index(TREE["weight"].numpy().tobytes())  # type: ignore[attr-defined]
    assert damaged_entry(flipped(saved, weights + 1000, 5)) == "saved/data/0"
    assert damaged_entry(flipped(saved, content.index(b"step"))) == "saved/data.pkl"


def test_torch_takes_flipped_weights_for_good(saved: Path) -> None:
    """Why the checksums are compared here at all."""
    at = saved.read_bytes().index(TREE["weight"].numpy().tobytes()) + 1000  # type: ignore[attr-defined]
    assert not torch.equal(torch.load(flipped(saved, at, 5))["weight"], TREE["weight"])  # type: ignore[arg-type]


def test_no_flip_of_any_byte_changes_what_is_read_unnoticed(saved: Path) -> None:
    found = 0
    for at in range(0, saved.stat().st_size, 7):
        other = flipped(saved, at, at % 8)
        if damaged_entry(other) is not None:
            found += 1
            continue
        try:
            tree = torch.load(other, weights_only=True)
        except Exception:  # torch refuses it; most often a RuntimeError
            continue
        assert torch.equal(tree["weight"], TREE["weight"])  # type: ignore[arg-type]
        assert torch.equal(tree["more"]["bias"], TREE["more"]["bias"])  # type: ignore[index]
        assert tree["step"] == 3
    assert found > (2400 + 56) / 7, "the bytes of all tensors, at least"


@pytest.mark.parametrize("size", [0, 1, 21, 22, 100, 2000, -1, -22])
def test_what_is_cut_off_is_damaged(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    assert damaged_entry(saved) == "its table of contents"


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"\x80\x02}q\x00.", bytes(4096)])
def test_what_is_no_archive_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    assert damaged_entry(tmp_path / "other") == "its table of contents"


def test_compressed_entries_are_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/0", bytes(10**6))
    assert damaged_entry(tmp_path / "bomb") == "data/0"


def test_an_archive_without_checksums_is_not_checked(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(TREE, tmp_path / "plain.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert damaged_entry(tmp_path / "plain.pt") is None
    assert damaged_entry(flipped(tmp_path / "plain.pt", 2000)) is None


def test_what_cannot_be_read_at_all_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        damaged_entry(tmp_path / "missing.pt")
