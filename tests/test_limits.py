"""Limits on what files may ask for: each can be raised by a variable; errors name it, and the value that would do."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunCli
from PIL import Image

from gol_decouple import limits
from gol_decouple.data.images import ImageFiles, decode
from gol_decouple.errors import InputError
from gol_decouple.files import read_bytes, read_json, refuse_odd
from gol_decouple.limits import LIMITS, PIXELS, TEXT_BYTES
from gol_decouple.toml_texts import parse_toml
from gol_decouple.zipped_arrays import read_arrays

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_variable_of_the_environment_is_the_limit(monkeypatch: pytest.MonkeyPatch, limit: limits.Limit) -> None:
    assert limit.value() == limit.default
    monkeypatch.setenv(limit.variable, "17")
    assert limit.value() == 17
    limit.check(17, "it has 17")
    with pytest.raises(InputError, match="^it has 18, more than 17$") as refused:
        limit.check(18, "it has 18")
    assert refused.value.hint == f"if you trust it: GOL_DECOUPLE_MAX_{limit.name}=18 allows it"


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1e9", " 7", "all", "9" * 30, "\u0663"])
def test_a_limit_that_is_none_is_told_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, run_cli: RunCli, text: str
) -> None:
    monkeypatch.setenv("GOL_DECOUPLE_MAX_PIXELS", text)
    outcome = run_cli("methods")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: GOL_DECOUPLE_MAX_PIXELS = ")
    assert "a whole number from 1, of 18 digits at most\nhint: unset it, or set it to 178956970" in outcome.err


def test_a_limit_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> None:
    monkeypatch.setenv("GOL_DECOUPLE_MAX_PIXEL", "10")
    outcome = run_cli("methods")
    assert (outcome.code, outcome.out) == (2, "")
    assert "unknown limit 'GOL_DECOUPLE_MAX_PIXEL'" in outcome.err
    assert "did you mean 'GOL_DECOUPLE_MAX_PIXELS'?" in outcome.err


def test_every_limit_is_documented() -> None:
    documented = dict(re.findall(r"\| `(GOL_DECOUPLE_MAX_\w+)` \| ([\d,]+) \|", DOCUMENT.read_text(encoding="utf-8")))
    assert documented == {limit.variable: f"{limit.default:,}" for limit in LIMITS}


# Images


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("most", [34, 17, 1])  # Pillow's own check leaves twice as many
def test_pixels(monkeypatch: pytest.MonkeyPatch, picture: Path, most: int) -> None:
    monkeypatch.setenv("GOL_DECOUPLE_MAX_PIXELS", str(most))
    told = rf"35 pixels, more than {most}; if you trust it: GOL_DECOUPLE_MAX_PIXELS=35 allows it"
    with pytest.raises(InputError, match=told):
        decode(picture)
    with pytest.raises(InputError, match=told):
        ImageFiles(picture.parent, ["a.png"]).look()
    monkeypatch.setenv("GOL_DECOUPLE_MAX_PIXELS", "35")
    assert decode(picture).shape == (5, 7, 3)
    assert ImageFiles(picture.parent, ["a.png"]).look().tolist() == [[5, 7, picture.stat().st_size]]


def test_pixels_above_pillows_own_limit(monkeypatch: pytest.MonkeyPatch, picture: Path) -> None:
    """A limit that is raised is Pillow's too."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    assert decode(picture).shape == (5, 7, 3)
    assert PIXELS.default == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_have_the_limit_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Path, finished_run: Path, run_cli: RunCli, workers: int
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "runs" / "colours"))
    config = (run / "config.toml").read_text().replace("num_workers = 0", f"num_workers = {workers}")
    (run / "config.toml").write_text(re.sub(r"(\[features\]\n(?:.*\n)*?)batch_size = \d+", r"\1batch_size = 1", config))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture)
    monkeypatch.setenv("GOL_DECOUPLE_MAX_PIXELS", "63")
    outcome = run_cli("predict", run, picture, picture, "--device", "cpu")
    assert outcome.code == 2
    assert outcome.err.count("GOL_DECOUPLE_MAX_PIXELS=64 allows it") == 2
    monkeypatch.setenv("GOL_DECOUPLE_MAX_PIXELS", "64")
    assert run_cli("predict", run, picture, picture, "--device", "cpu").code == 0


# Texts, trees and archives


def test_bytes_of_a_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"12345")
    monkeypatch.setenv("GOL_DECOUPLE_MAX_TEXT_BYTES", "5")
    assert read_bytes(tmp_path / "a.txt", TEXT_BYTES) == b"12345"
    monkeypatch.setenv("GOL_DECOUPLE_MAX_TEXT_BYTES", "4")
    with pytest.raises(InputError, match="has 5 bytes, more than 4"):
        read_bytes(tmp_path / "a.txt", TEXT_BYTES)


def test_a_device_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOL_DECOUPLE_MAX_TEXT_BYTES", "5000000")
    with pytest.raises(InputError, match="^/dev/zero has 5,242,880 bytes or more, more than 5,000,000$"):
        read_bytes(Path("/dev/zero"), TEXT_BYTES)


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else 0


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"a": float("nan")}, "it holds nan"),
        ([float("-inf")], "it holds -inf"),
        ({"a": [2**64]}, "it holds 18446744073709551616..., which is no number of 64 bits"),
        (nested(64), "it has objects in objects, 65 levels, more than 64"),
    ],
)
def test_what_no_reader_is_made_for(tmp_path: Path, tree: Any, told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        refuse_odd(tree)
    (tmp_path / "a.json").write_text(json.dumps({"x": tree}))
    with pytest.raises(InputError, match="is not readable JSON"):
        read_json(tmp_path / "a.json", "a hint")


def test_depth_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a." * 64 + "b = 1\nc = " + "[" * 65 + "]" * 65
    with pytest.raises(InputError, match="it has a key of 65 parts, more than 64") as refused:
        parse_toml(text)
    assert refused.value.hint == "if you trust it: GOL_DECOUPLE_MAX_DEPTH=65 allows it"
    monkeypatch.setenv("GOL_DECOUPLE_MAX_DEPTH", "65")
    assert parse_toml(text).keys() == {"a", "c"}
    refuse_odd(nested(64))


@pytest.mark.parametrize(
    "text",
    ['a = "[[[["', "a = '{{{'", '"a.b.c" = 1', "# [[[[ a.b.c.d", 'a = """[[[\n{{{ a.b.c"""', "a = 0.1\nb = [1.5, 2.5]"],
)
def test_what_only_looks_deep_is_not_counted(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GOL_DECOUPLE_MAX_DEPTH", "2")
    parse_toml(text)


def test_unpacked_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(100_000, np.uint8))
    monkeypatch.setenv("GOL_DECOUPLE_MAX_UNPACKED_BYTES", "100127")
    with pytest.raises(InputError, match=r"it unpacks from \d+ to 100,128 bytes, more than 100,127") as refused:
        read_arrays(tmp_path / "a.npz")
    assert refused.value.hint == "if you trust it: GOL_DECOUPLE_MAX_UNPACKED_BYTES=100128 allows it"
    monkeypatch.setenv("GOL_DECOUPLE_MAX_UNPACKED_BYTES", "100128")
    assert len(read_arrays(tmp_path / "a.npz")["x"]) == 100_000


def test_data_that_pack_as_images_do_are_no_bomb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).integers(0, 4, 100_000, dtype=np.uint8))
    monkeypatch.setenv("GOL_DECOUPLE_MAX_UNPACKED_BYTES", "1")
    assert len(read_arrays(tmp_path / "a.npz")["x"]) == 100_000
