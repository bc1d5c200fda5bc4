"""Predictors that nothing fitted: told in a file's metadata, and left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from gol_decouple.backbones import unfit
from gol_decouple.backbones.checkpoints import Match
from gol_decouple.backbones.detector_layouts import CLASSIFIER, MASKS, REGRESSOR
from gol_decouple.errors import InputError


def test_what_was_not_loaded_is_told() -> None:
    assert unfit.lacking(None) == (CLASSIFIER, REGRESSOR, MASKS)
    found = {f"{CLASSIFIER}weight": ("a",), f"{MASKS}weight": ("b",)}
    assert unfit.lacking(Match(Path("a.pth"), found, {}, [], "", True)) == (REGRESSOR,)


@pytest.mark.parametrize("names", [(), (MASKS,), (CLASSIFIER, REGRESSOR, MASKS)])
def test_metadata_come_back(names: tuple[str, ...]) -> None:
    told = unfit.metadata(names)
    assert bool(told) == bool(names)
    assert unfit.read(told, Path("a.safetensors")) == names


@pytest.mark.parametrize("text", ["{", "[1]", '["other"]', '"roi"', "[[]]", 5])
def test_damaged_metadata_are_refused(text: object) -> None:
    with pytest.raises(InputError, match=r"the metadata gol_decouple.unfit of a.safetensors is damaged"):
        unfit.read({unfit.METADATA: text}, Path("a.safetensors"))
