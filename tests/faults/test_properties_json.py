"""Whatever JSON says, as annotations, results, or the manifest of a run: it is read or refused in words."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import lvis_files
import pytest
from hypothesis import strategies as st
from properties import EXAMPLES, TREES, hold, mutated, spoiled
from rich.console import Console

from gol_decouple.data.lvis_checking import check_annotations
from gol_decouple.data.lvis_convert import convert
from gol_decouple.data.lvis_json import read_annotations
from gol_decouple.detection import prepare
from gol_decouple.detection.detections import read_detections
from gol_decouple.detection.ground_truth import GroundTruth
from gol_decouple.detection.json_parts import read_parts
from gol_decouple.errors import InputError
from gol_decouple.files import read_json, refuse_odd
from gol_decouple.report import gains, rows, tables
from gol_decouple.report.collected import Collected
from gol_decouple.report.formats import Format
from gol_decouple.report.written import of_rows

RESULT = {"image_id": 20, "category_id": 7, "score": 0.5, "bbox": [1, 1, 2, 2], "segmentation": [lvis_files.SQUARE]}
MANIFEST = {
    "dataset": "digits", "imbalance_factor": 20.0, "backbone": "resnet32", "train_counts": [40, 21, 6],
    "features": {"fingerprint": "0" * 64, "size": 64, "checked": True}, "stage": 1, "run": "mine", "method": "softmax",
    "activation": "softmax", "loss": "cross_entropy", "sampler": "random", "classifier": "linear", "seed": 0,
    "started_from": "random", "settings": {"epochs": 1, "lr": 0.01, "max_steps": 5}, "scaled_lr": 0.01, "seconds": 0.5,
    "changed_settings": {"lr": 0.1}, "trained_on": "train", "views": 2, "cascade": [{"features": "a.h5"}],
    "split": "test", "temperature": None,
    "metrics": {
        "top1": 40.0, "top1_balanced": 40.0, "top1_many": None, "top1_medium": 10.0, "top1_few": 100.0, "num_many": 0,
        "num_medium": 2, "num_few": 1, "ece": 43.0, "classwise_ece": 36.0, "nll": 2.1,
    },
}  # fmt: skip
CHOICE = {"held_out": "val", "tried": [{"settings": {"lr": 0.1}, "value": 50.0}, {"settings": {}, "value": None}]}


def written(path: Path, tree: Any) -> Path:
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_annotations_are_read_or_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "theirs.json"

    @hold(examples, st.one_of(TREES, spoiled(lvis_files.tiny())))
    def _(tree: Any) -> None:
        written(path, tree)
        with contextlib.suppress(InputError):
            read_annotations(path)
        with contextlib.suppress(InputError):
            lines, failure = check_annotations(path, None)
            assert bool(lines) == (failure is not None)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_annotations_are_converted_or_refused(tmp_path: Path, examples: int) -> None:
    @hold(examples, spoiled(lvis_files.as_coco(lvis_files.tiny())))
    def _(tree: Any) -> None:
        target = tmp_path / "out.json"
        target.unlink(missing_ok=True)
        with contextlib.suppress(InputError):
            convert(written(tmp_path / "theirs.json", tree), target)
            read_annotations(target)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GroundTruth]:
    path = written(tmp_path_factory.mktemp("truth") / "truth.json", lvis_files.tiny())
    return {kind: prepare(path, kind).truth for kind in ("bbox", "segm")}


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_results_are_read_or_refused(
    tmp_path: Path, truth: dict[str, GroundTruth], examples: int, kind: str
) -> None:
    path = tmp_path / "theirs.json"

    @hold(examples, st.one_of(TREES, spoiled([RESULT, RESULT])))
    def _(tree: Any) -> None:
        with contextlib.suppress(InputError):
            found = read_detections(str(written(path, tree)), truth[kind])
            assert len(found.images) == len(found.scores) == len(tree)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_results_in_parts_are_those_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    from gol_decouple.detection import json_parts

    path = tmp_path / "theirs.json"

    @hold(examples, st.lists(TREES, max_size=6), st.integers(1, 40))
    def _(tree: list[Any], characters: int) -> None:
        monkeypatch.setattr(json_parts, "PART_CHARACTERS", characters)
        text = json.dumps(tree)
        path.write_text(text, encoding="utf-8")
        assert json.dumps([row for part in read_parts(path) for row in part]) == text


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_bytes_are_json_or_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "theirs.json"
    right = json.dumps(lvis_files.tiny()).encode()

    @hold(examples, st.one_of(st.binary(max_size=50), mutated(right)))
    def _(data: bytes) -> None:
        path.write_bytes(data)
        for read in (read_annotations, read_json, lambda path: list(read_parts(path))):
            with contextlib.suppress(InputError):
                read(path)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_manifest_is_reported_or_refused(tmp_path: Path, examples: int) -> None:
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "config.toml").write_text("")

    @hold(examples, spoiled(MANIFEST), st.one_of(st.none(), spoiled(CHOICE)))
    def _(manifest: Any, choice: Any) -> None:
        written(run / "manifest.json", manifest)
        (run / "choice.json").unlink(missing_ok=True)
        if choice is not None:
            written(run / "choice.json", choice)
        with contextlib.suppress(InputError):
            found = gains.add_gains(rows.collect_rows([run], tmp_path / "runs"), None)
            every = Collected(found, found)
            for format_ in (Format.json, Format.csv, Format.markdown, Format.latex):
                text = of_rows(every, format_, paper=False)
                assert isinstance(text, str)
                assert "\x1b" not in text.replace("\\x1b", "") or format_ is Format.csv
            tables.print_leveled(tables.leveled_tables(found), Console(file=io.StringIO(), width=60))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_what_is_odd_is_refused(examples: int) -> None:
    @hold(examples, TREES)
    def _(tree: Any) -> None:
        with contextlib.suppress(InputError):
            refuse_odd(tree)
            json.dumps(tree, allow_nan=False)
