"""A corpus of inputs from strangers: each is refused in words, in bounded time and memory, and none runs code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import write_gaussians
from hostile import Good, run_all, snapshot
from hostile_checkpoints import CHECKPOINTS
from hostile_hdf5 import HDF5
from hostile_images import IMAGES
from hostile_json import JSON
from hostile_npz import NPZ
from hostile_texts import TEXTS

from gol_decouple.targets import find_target, stage2_settings

LEAST = 765
CASES = IMAGES.cases | TEXTS.cases | JSON.cases | NPZ.cases | HDF5.cases | CHECKPOINTS.cases


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, small_config: Path, finished_run: Path) -> Good:
    from gol_decouple.config import override_section
    from gol_decouple.stages.classifier import run_stage2

    folder = tmp_path_factory.mktemp("good")
    run = Path(shutil.copytree(finished_run, folder / "runs" / "colours"))
    target = find_target(run, run.parent)
    run_stage2(
        target, ["softmax"], [0], override_section(stage2_settings(target), ["stage2.epochs=1"], "stage2"), "cpu"
    )
    return Good(small_config, run, write_gaussians(folder / "gaussians.h5"))


@pytest.fixture(scope="module", autouse=True)
def nothing_good_changes(good: Good) -> object:
    folders = (good.config.parent, good.run, good.features.parent)
    before = snapshot(*folders)
    yield
    assert snapshot(*folders) == before


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory, good: Good) -> dict[str, list[str]]:
    import torch  # noqa: F401  # what every case would import for itself

    from gol_decouple.stages import backbone, classifier, restored  # noqa: F401

    return run_all(CASES, tmp_path_factory.mktemp("cases"), good)


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_input_is_refused(faults: dict[str, list[str]], name: str) -> None:
    assert not faults[name], "\n".join(faults[name])


def test_the_corpus_does_not_shrink() -> None:
    assert len(CASES) >= LEAST
