"""Pickles of arrays are read as they are, whoever wrote them, and nothing else in them is run."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gol_decouple.backbones.plain_pickle import read_pickle
from gol_decouple.backbones.tensor_files import read_contents
from gol_decouple.errors import InputError

ARRAYS: dict[str, NDArray[Any]] = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "by_column": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "half": np.array([1.5], np.float16),
    "big_endian": np.arange(4, dtype=">i4"),
    "number": np.array(7, np.int64),
    "none": np.zeros((0, 3), np.float32),
    "flags": np.array([True, False]),
}


def saved(path: Path, tree: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(tree, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_come_back_as_they_were(tmp_path: Path, protocol: int) -> None:
    tree = {"model": OrderedDict(ARRAYS), "__author__": "somebody", "matching_heuristics": True, "n": np.float32(3)}
    found = read_pickle(saved(tmp_path / "model.pkl", tree, protocol))
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")
    tensors = read_contents(tmp_path / "model.pkl").tensors
    assert tensors["model", "weight"].tolist() == ARRAYS["weight"].tolist()


def test_old_names_of_numpy_and_bytes_of_python_2(tmp_path: Path) -> None:
    """As NumPy 1 wrote it, and as Python 2 did, whose texts and bytes are one thing."""
    text = pickle.dumps({"w": ARRAYS["weight"]}, protocol=3)
    assert b"numpy._core" in text
    (tmp_path / "old.pkl").write_bytes(text.replace(b"numpy._core", b"numpy.core"))
    np.testing.assert_array_equal(read_pickle(tmp_path / "old.pkl")["w"], ARRAYS["weight"])
    content = np.array([1.0, -2.0], np.float32).tobytes()
    python2 = (
        b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(content)]) + content + b"tbs."
    )
    (tmp_path / "python2.pkl").write_bytes(python2)
    assert read_pickle(tmp_path / "python2.pkl")["w"].tolist() == [1.0, -2.0]


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self._call = call, arguments

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    ("call", "named"), [((os.system, "true"), "system"), ((eval, "1"), "eval"), ((np.ones, 3), "ones")]
)
def test_what_would_be_run_is_refused_by_name(tmp_path: Path, protocol: int, call: Any, named: str) -> None:
    path = saved(tmp_path / "evil.pkl", {"model": {"w": ARRAYS["weight"], "x": Evil(*call)}}, protocol)
    with pytest.raises(InputError, match=f"is refused: it needs code to be read, which is refused: .*{named}") as error:
        read_pickle(path)
    assert "save its weights alone" in (error.value.hint or "")


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
DTYPE = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
ENDLESS = struct.pack("<q", 10**13)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RECONSTRUCT + b"(\x8a\x08" + ENDLESS + b"tU\x01b\x87R.", "in a way that NumPy does not"),
        (
            RECONSTRUCT + b"K\x00\x85U\x01b\x87R(K\x01\x8a\x08" + ENDLESS + b"\x85" + DTYPE + b"\x89U\x00tb.",
            r"claims 10,000,000,000,000 values it has not",
        ),
        (RECONSTRUCT + b"K\x00\x85U\x01b\x87R(K\x01J\xff\xff\xff\xff\x85" + DTYPE + b"\x89U\x00tb.", "of shape"),
        (b"cnumpy\ndtype\nU\x01OK\x00K\x01\x87R.", "values of type 'O'"),
        (b"cnumpy\ndtype\nU\x05V9999K\x00K\x01\x87R.", "values of type 'V9999'"),
        (DTYPE + b"(K\x03U\x01<NU\x01aNK\x00K\x00K\x00tb.", "of several parts"),
        (b"ccollections\nOrderedDict\nN}U\x01xK\x01s\x86b.", "no array"),
        (b"c_codecs\nencode\nU\x01xU\x05utf16\x86R.", "no text in latin1"),
        (b"r\xff\xff\xff\xff.", "is not a readable pickle"),
        (b"U\xff.", "is not a readable pickle"),
        (b"\x8e" + ENDLESS + b"x.", "is not a readable pickle"),
        (b"\x96" + ENDLESS + b"x.", "is not a readable pickle"),
        (b"Vnobody\nQ.", "is not a readable pickle"),
        (b"", "is not a readable pickle"),
        (b"K\x01.", "holds no tensors"),
    ],
)
def test_what_nobody_writes_is_refused_before_it_costs_anything(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "made.pkl").write_bytes(b"\x80\x02" + content)
    with pytest.raises(InputError, match=message):
        read_pickle(tmp_path / "made.pkl")


def test_a_file_claims_no_more_than_it_has(tmp_path: Path) -> None:
    """Many arrays of the same bytes, which the file has once."""
    shared = np.zeros(1000).tobytes()
    made = RECONSTRUCT + b"K\x00\x85U\x01b\x87R(K\x01M\xe8\x03\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R\x89"
    first = b"U\x01a" + made + b"T" + struct.pack("<i", len(shared)) + shared + b"q\x01tb"
    second = b"U\x01b" + made + b"h\x01tb"
    (tmp_path / "one.pkl").write_bytes(b"\x80\x02}(" + first + b"u.")
    assert read_pickle(tmp_path / "one.pkl")["a"].shape == (1000,)
    (tmp_path / "two.pkl").write_bytes(b"\x80\x02}(" + first + second + b"u.")
    with pytest.raises(InputError, match="bytes claim to be 16,000 bytes of arrays"):
        read_pickle(tmp_path / "two.pkl")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    whole = pickle.dumps({"model": ARRAYS}, protocol=4)
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / "part.pkl").write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_pickle(tmp_path / "part.pkl")


def test_a_pickle_without_arrays_has_no_tensors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no tensors"):
        read_contents(saved(tmp_path / "model.pkl", {"model": {"a": 1}}))


def test_torchs_files_are_torchs_whatever_they_are_called(tmp_path: Path) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save({"model": {"w": torch.ones(2)}, "meta": {"config": "x = 1", "CLASSES": ("a",)}}, buffer)
    (tmp_path / "model.pkl").write_bytes(buffer.getvalue())
    contents = read_contents(tmp_path / "model.pkl")
    assert contents.tensors["model", "w"].tolist() == [1.0, 1.0]
    assert contents.notes == {"config": "x = 1", "CLASSES": ("a",)}
