"""Which classifiers of a run are analysed, and what they are called."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import roi_files
from rich.console import Console
from safetensors.numpy import save_file

from gol_decouple import features, runs
from gol_decouple.analyses.sources import STAGE_ONE, Frequencies, open_run
from gol_decouple.errors import InputError
from gol_decouple.files import read_json, write_json
from gol_decouple.progress import SILENT, Progress
from gol_decouple.stages.classifier_file import CLASSIFIER


def names_in(run: Path, *patterns: str) -> list[str]:
    return [source.name for source in open_run(run, run.parent, patterns, SILENT).sources]


def test_stage_one_then_the_table_of_methods_with_seeds_where_there_are_several(retrained_run: Path) -> None:
    names = names_in(retrained_run)
    assert names[:2] == [STAGE_ONE, "softmax-epochs2-seed0"]
    assert names.index("gumbel-epochs2-seed0") + 1 == names.index("gumbel-seed1")
    assert sum(name.startswith("logit_adjusted-") for name in names) == 2
    assert len(set(names)) == len(names)
    found = open_run(retrained_run, retrained_run.parent, ["gumbel"], SILENT).sources
    assert [source.setting for source in found] == ["gumbel-epochs2", "gumbel"]
    assert {source.method for source in found} == {"gumbel"}


def test_patterns(retrained_run: Path) -> None:
    assert names_in(retrained_run, STAGE_ONE) == [STAGE_ONE]
    assert names_in(retrained_run, "gumbel", "stage*") == [STAGE_ONE, *names_in(retrained_run, "gumbel")]
    assert names_in(retrained_run, "gumbel*seed1") == ["gumbel-seed1"]
    with pytest.raises(InputError, match="unknown classifier of .* 'gumbell'") as caught:
        names_in(retrained_run, "gumbell")
    assert caught.value.hint is not None
    assert "did you mean 'gumbel'?" in caught.value.hint


def test_no_classifier(tmp_path: Path) -> None:
    path = features.write(tmp_path / "bare.h5", {"train": (((0.0,), (1.0,)), (0, 1)), "test": (((0.0,),), (0,))})
    with pytest.raises(InputError, match=r"bare.h5 has no finished classifier to analyse") as caught:
        names_in(path)
    assert caught.value.hint == f"gol-decouple stage2 {path} --activation gumbel makes one"


def test_those_of_other_features_and_those_that_are_not_finished_are_left_out(
    retrained_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(retrained_run, tmp_path / "run"))
    folders = {path.name.split("-")[0]: path for path in (run / "stage2").iterdir()}
    (folders["sigmoid"] / runs.MANIFEST).unlink()
    manifest = read_json(folders["softmax"] / runs.MANIFEST)
    manifest["features"]["fingerprint"] = "other"
    write_json(folders["softmax"] / runs.MANIFEST, manifest)
    said = io.StringIO()
    found = open_run(run, tmp_path, [], Progress(Console(file=said, soft_wrap=True)))
    assert not {"sigmoid", "softmax"} & {source.method for source in found.sources}
    assert f"warning: {folders['softmax']} is left out: it was trained on other features" in said.getvalue()


@pytest.mark.parametrize("spoil", ["settings", "seed", "weights", "shape"])
def test_damage(retrained_run: Path, tmp_path: Path, spoil: str) -> None:
    run = Path(shutil.copytree(retrained_run, tmp_path / "run"))
    folder = next((run / "stage2").glob("sigmoid-*"))
    if spoil in ("settings", "seed"):
        manifest = read_json(folder / runs.MANIFEST)
        del manifest[spoil]
        write_json(folder / runs.MANIFEST, manifest)
    elif spoil == "weights":
        (folder / CLASSIFIER).write_bytes(b"none")
    else:
        save_file({"weight": np.zeros((2, 4), np.float32), "bias": np.zeros(2, np.float32)}, folder / CLASSIFIER)
    with pytest.raises(InputError, match="sigmoid-"):
        names_in(run)


def test_frequencies(retrained_run: Path, tmp_path: Path) -> None:
    of_images = open_run(retrained_run, tmp_path, [], SILENT).frequencies
    assert of_images.counts.tolist() == [40, 21, 6]
    assert of_images.groups.tolist() == ["medium", "medium", "few"]
    assert of_images.unit == "train samples"
    opened = features.open(roi_files.write(tmp_path / "rois.h5", 20, 4))
    of_rois = Frequencies.of(opened.classes)
    assert of_rois.counts.tolist() == roi_files.IMAGE_COUNTS
    assert of_rois.groups.tolist() == ["frequent", "common", "rare"]
    assert of_rois.names == ("frequent", "common", "rare")
    assert of_rois.unit == "train images"
    assert of_rois.order.tolist() == [0, 1, 2]
