"""Whatever the bytes of an image, a checkpoint, an .npz or a features file: they are read or refused in words."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hostile_checkpoints import in_zip, legacy, number, text
from hostile_images import _SUFFIX, encoded
from hostile_npz import images, zipped
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from properties import EXAMPLES, FEWER, TREES, hold, mutated, spoiled

from gol_decouple import features
from gol_decouple.backbones.mmdetection_config import parse, stated
from gol_decouple.backbones.tensor_files import read_contents
from gol_decouple.data.images import decode
from gol_decouple.errors import InputError
from gol_decouple.zipped_arrays import read_arrays


@pytest.mark.parametrize("form", list(_SUFFIX))
@pytest.mark.parametrize("examples", FEWER)
def test_any_image_is_decoded_or_refused(tmp_path: Path, examples: int, form: str) -> None:
    path, right = tmp_path / f"theirs.{_SUFFIX[form]}", encoded(form)

    @hold(examples, mutated(right))
    def _(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(InputError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of odd tags
            assert decode(path).ndim == 3


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_archive_of_arrays_is_read_or_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "theirs.npz"

    @hold(examples, st.one_of(st.binary(max_size=80), mutated(zipped(images()))))
    def _(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(InputError):
            read_arrays(path)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_arrays_come_back(tmp_path: Path, examples: int) -> None:
    numbers = st.one_of(arrays.integer_dtypes(), arrays.floating_dtypes(), arrays.boolean_dtypes())
    kinds = st.one_of(numbers, arrays.unicode_string_dtypes(min_len=1, max_len=4))
    shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)

    @hold(examples, kinds.flatmap(lambda kind: arrays.arrays(kind, shapes)), st.booleans(), st.booleans())
    def _(values: Any, by_column: bool, packed: bool) -> None:
        values = np.asfortranarray(values) if by_column else values
        (np.savez_compressed if packed else np.savez)(tmp_path / "a.npz", x=values)
        found = read_arrays(tmp_path / "a.npz")["x"]
        assert (found.dtype, found.shape) == (values.dtype, values.shape)
        assert found.tobytes() == values.tobytes()
        assert found.flags.writeable


# Checkpoints

NAMES = (
    *("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch FloatStorage", "torch Size", "os system"),
    *("builtins bytearray", "builtins set", "numpy dtype", "numpy.core.multiarray scalar", "argparse Namespace"),
    "_codecs encode",
)
_BYTES = [
    *(b"}", b"]", b")", b"(", b"t", b"\x85", b"\x86", b"\x87", b"s", b"u", b"a", b"e", b"R", b"b", b"\x81", b"Q", b"N"),
    *(b"\x88", b"h\x00", b"h\x01", b"q\x00", b"q\x01", b"K\x01", b"0", b"1", b"2", b"\x8f", b"\x90", b"\x93", b"\x94"),
]
OPCODES = st.one_of(
    st.sampled_from(_BYTES),
    st.sampled_from(NAMES).map(lambda name: b"c" + name.replace(" ", "\n").encode() + b"\n"),
    st.text(max_size=4).filter(lambda value: value.isascii()).map(text),
    st.integers(-(2**70), 2**70).map(number),
    st.just(text("storage")),
)
PROGRAMS = st.lists(OPCODES, max_size=25).map(lambda codes: b"\x80\x02" + b"".join(codes) + b".")


@pytest.mark.parametrize("examples", FEWER)
def test_any_program_of_a_checkpoint_is_read_or_refused(tmp_path: Path, examples: int) -> None:
    @hold(examples, PROGRAMS)
    def _(program: bytes) -> None:
        for name, data in (("a.pth", in_zip(program)), ("a.pt", legacy(program)), ("a.pkl", program)):
            (tmp_path / name).write_bytes(data)
            with contextlib.suppress(InputError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read_contents(tmp_path / name)


@pytest.mark.parametrize("suffix", ["pth", "pt", "pkl", "safetensors"])
@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_checkpoint_is_read_or_refused(tmp_path: Path, examples: int, suffix: str) -> None:
    from safetensors.torch import save

    file, state = io.BytesIO(), {"fc.weight": torch.ones(3, 2), "fc.bias": torch.zeros(3)}
    if suffix == "safetensors":
        file.write(save(state))
    elif suffix == "pkl":
        pickle.dump({"model": {name: value.numpy() for name, value in state.items()}}, file)
    else:
        torch.save({"state_dict": state, "epoch": 3}, file, _use_new_zipfile_serialization=suffix == "pth")
    path = tmp_path / f"theirs.{suffix}"
    path.write_bytes(file.getvalue())
    assert len(read_contents(path).tensors) == 2

    @hold(examples, mutated(file.getvalue()))
    def _(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(InputError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_contents(path)


MODEL = {
    "backbone": {"style": "pytorch", "norm_cfg": {"eps": 1e-5}},
    "rpn_head": {"anchor_generator": {"type": "AnchorGenerator"}},
    "roi_head": {
        "bbox_head": {"bbox_coder": {"target_stds": [0.1, 0.1, 0.2, 0.2]}, "loss_cls": {"type": "GumbelCE"}},
        "mask_head": {"predictor_cfg": {"type": "NormedConv2d"}},
    },
    "test_cfg": {"rpn": {"nms_pre": 1000}, "rcnn": {"score_thr": 0.05}},
}
PIXELS = {"mean": [1.0, 2.0, 3.0], "std": [1, 1, 1]}


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_config_in_a_checkpoint_is_read_or_refused(examples: int) -> None:
    written = st.tuples(spoiled(MODEL), spoiled(PIXELS)).map(
        lambda two: f"model = {two[0]!r}\nimg_norm_cfg = {two[1]!r}"
    )

    @hold(examples, st.one_of(st.text(max_size=40), written))
    def _(config: str) -> None:
        with contextlib.suppress(InputError):
            stated(parse(config))


# Features

_N, _D = 6, 2
_PARTS = (
    *(f"{split}/{name}" for split in ("train", "test") for name in ("features", "labels", "ids")),
    *("classes/names", "classes/train_counts", "classifier/weight", "classifier/bias", "train/block_crc32"),
    *("complete", "fingerprint", "train/boxes", "train/images/ids"),
)
_ATTRIBUTES = (
    *("format", "version", "dtype", "origin", "row_order_seed"),
    *("train:rows_per_block", "train:rois_per_image", "classes:num_images"),
)
_KINDS = st.sampled_from(["u1", "i2", "<i8", ">i4", "u8", "f2", "<f4", ">f8", "S3", "?", "c8"])
_SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=_N)
DATA = _KINDS.flatmap(lambda kind: arrays.arrays(np.dtype(kind), _SHAPES))
PLAIN = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.binary(min_size=1, max_size=9).filter(lambda one: b"\0" not in one),
    TREES.map(json.dumps),
    st.lists(st.integers(0, 9), min_size=1, max_size=3),
)
PARTS = st.dictionaries(st.sampled_from(_PARTS), st.none() | DATA, max_size=3)
ATTRIBUTES = st.dictionaries(st.sampled_from(_ATTRIBUTES), PLAIN, max_size=2)


def base(file: h5py.File) -> None:
    file.attrs.update({"format": "gol-decouple features", "version": 1})
    for split in ("train", "test"):
        file[f"{split}/features"] = np.arange(_N * _D, dtype=np.float32).reshape(1, _N, _D)
        file[f"{split}/labels"] = np.arange(_N) % 2
        file[f"{split}/ids"] = np.arange(_N)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_features_file_is_opened_or_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "theirs.h5"

    @hold(examples, PARTS, ATTRIBUTES)
    def _(parts: dict[str, Any], attributes: dict[str, Any]) -> None:
        with h5py.File(path, "w") as file:
            base(file)
            for name, values in parts.items():
                if name in file:
                    del file[name]
                if values is not None:
                    file[name] = values
            for name, value in attributes.items():
                group, _, last = name.rpartition(":")
                assume(not (isinstance(value, str) and "\0" in value))
                file.require_group(group or "/").attrs[last] = value
        with contextlib.suppress(InputError):
            opened = features.open(path)
            for split in opened.splits:
                part = opened[split]
                assert part.features[0, :].shape == (len(part.labels), opened.feature_size)


NAME = st.text(min_size=1, max_size=5).filter(str.isprintable)


@pytest.mark.parametrize("examples", FEWER)
def test_features_come_back(tmp_path: Path, examples: int) -> None:
    path, finite = tmp_path / "mine.h5", st.floats(-1e4, 1e4, width=16)
    shapes, kinds = st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(1, 4)), ["float16", "float32"]
    values = st.builds(
        lambda shape, kind: arrays.arrays(np.dtype(kind), shape, elements=finite), shapes, st.sampled_from(kinds)
    )
    labels = st.lists(st.integers(0, 3), min_size=9, max_size=9)

    @hold(examples, values.flatmap(lambda one: one), labels, st.lists(NAME, min_size=4, max_size=4))
    def _(values: Any, labels: Any, names: list[str]) -> None:
        labels = np.array(labels[: values.shape[1]])
        path.unlink(missing_ok=True)
        features.write(path, {"train": (values, labels), "test": (values[:1], labels)}, class_names=names)
        found = features.open(path)
        assert found.classes.names == names
        assert found.checked
        assert np.array_equal(found["train"].features[:, :], values)
        assert found["train"].labels.tolist() == labels.tolist()
