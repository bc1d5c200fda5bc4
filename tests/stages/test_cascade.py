"""Cascades: classifiers of several stages score together; against a plain re-statement, and on the command line."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome, RunCli
from roi_files import BIAS, NAMES, PER_IMAGE, WEIGHT, C, D, Made, annotate, arguments, make
from safetensors.numpy import load_file

from gol_decouple import features, runs
from gol_decouple.detection import evaluate_lvis
from gol_decouple.stages import classifier
from gol_decouple.stages.classifier_file import CLASSIFIER
from gol_decouple.stages.detection_evaluation import DetectionEvaluation
from gol_decouple.stages.stack import Stack
from gol_decouple.stages.states import STATE
from gol_decouple.targets import Target, cascade_folder

TEST = make(12, 1, 1000)
FAST = ("--set", "stage2.epochs=2", "--set", "stage2.batch_size=64")
FILES = ("s1.h5", "s2.h5", "s3.h5")


def write_stage(path: Path, stage: int, test: Made | None = None, **changes: Any) -> Path:
    """Other train RoIs at each stage; of test, the same proposals, nearer to the objects and with other features."""
    stream = np.random.default_rng(stage)
    test, used = test or TEST, (TEST.labels >= 0)[:, None]
    if len(test.labels) == len(TEST.labels):
        moved = np.where(used, test.boxes + stream.normal(0, 4 / (stage + 1), test.boxes.shape), 0).clip(0)
        boxes = np.concatenate([moved[:, :2], np.maximum(moved[:, 2:], moved[:, :2])], axis=1).astype(np.float32)
        x = np.where(used, test.x + stream.normal(0, 1.5, test.x.shape), 0).astype(np.float32)
        test = replace(test, boxes=boxes, x=x)
    weight = stream.normal(0, 0.2, (1 + stage % 2 * (C - 1), 4, D))  # class-agnostic or not
    regressor = {"regressor": (weight, stream.normal(0, 0.2, weight.shape[:2])), "coder_weights": [10.0 * stage] * 4}
    given = arguments(make(40, 10 + stage), test, **regressor)
    # Smaller weights, so that no scores are 1 in float32, among which the order of RoIs would decide.
    given |= {"classifier": (0.1 * WEIGHT, 0.1 * BIAS), "origin": {"dataset": {"name": "made"}}}
    return features.write(path, **(given | changes), overwrite=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files in a folder, with annotations: a third of the objects are where no RoI is good for them."""
    folder = tmp_path_factory.mktemp("cascade")
    for stage, name in enumerate(FILES, 1):
        write_stage(folder / name, stage)
    annotate(folder / "val.json", TEST)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stage2(run_cli: RunCli, *arguments: object) -> Outcome:
    return run_cli("stage2", *arguments, "--annotations", "val.json", *FAST)


def manifests(run: Path) -> dict[str, dict[str, Any]]:
    """Those of a run, by the beginning of their folders' names."""
    found = {path.name.split("-")[0]: path / "manifest.json" for path in (run / "stage2").iterdir()}
    return {name: json.loads(path.read_text()) for name, path in found.items()}


# The plain re-statement: float64, one box at a time.


def activated(name: str, logits: np.ndarray) -> np.ndarray:
    if name == "gumbel":
        return np.exp(-np.exp(-logits))
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return (raised / raised.sum(1, keepdims=True))[:, :C]


def box_of(x: np.ndarray, box: np.ndarray, label: int, regressor: Any) -> list[float]:
    group = label if len(regressor.weight) > 1 else 0
    dx, dy, dw, dh = (regressor.weight[group] @ x + regressor.bias[group]) / np.array(regressor.coder_weights)
    width, height = box[2] - box[0], box[3] - box[1]
    middle_x, middle_y = box[0] + width / 2 + dx * width, box[1] + height / 2 + dy * height
    width, height = width * np.exp(min(dw, np.log(1000 / 16))), height * np.exp(min(dh, np.log(1000 / 16)))
    left, right = np.clip([middle_x - width / 2, middle_x + width / 2], 0, 640)
    top, low = np.clip([middle_y - height / 2, middle_y + height / 2], 0, 480)
    return [left, top, right, low]


def overlap(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def plain_results(files: list[Any], layers: list[tuple[np.ndarray, np.ndarray]], activation: str) -> list[dict]:
    """Detections of the mean of the stages' scores, boxes of the last stage, suppressed within each class."""
    results = []
    last = files[-1]["test"]
    for at, image_id in enumerate(last.images.ids.tolist()):
        rows = range(at * PER_IMAGE, at * PER_IMAGE + int(last.images.num_rois[at]))
        scores = np.mean(
            [
                activated(activation, file["test"].features[0, list(rows)].astype(float) @ weight.T + bias)
                for file, (weight, bias) in zip(files, layers, strict=True)
            ],
            axis=0,
        )
        for label in range(C):
            kept: list[list[float]] = []
            for place in np.argsort(-scores[:, label], kind="stable").tolist():
                row, score = rows[place], float(scores[place, label])
                box = box_of(
                    last.features[0, row].astype(float), last.boxes[row].astype(float), label, files[-1].regressor
                )
                solid = min(box[2] - box[0], box[3] - box[1]) >= 0.01
                if score <= 1e-4 or not solid or any(overlap(box, other) > 0.5 for other in kept):
                    continue
                kept.append(box)
                sides = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
                results.append({"image_id": image_id, "category_id": label + 1, "score": score, "bbox": sides})
    return results


def test_the_mean_is_that_of_a_plain_restatement(run_cli: RunCli, folder: Path) -> None:
    done = stage2(run_cli, *FILES, "--activation", "gumbel", "--activation", "softmax")
    assert done.code == 0, done.err
    files = [features.open(name) for name in FILES]
    figures = manifests(folder / "runs" / "s_cascade")
    assert set(figures) == {"stage_one", "gumbel", "softmax"}
    seen = []
    for method, told in figures.items():
        if method == "stage_one":
            layers = [(file.classifier.weight, file.classifier.bias) for file in files]
        else:
            folders = [next(Path(f"runs/s{k}/stage2").glob(f"{method}-*")) for k in (1, 2, 3)]
            assert [one["classifier"] for one in told["cascade"]] == [path.name for path in folders]
            tensors = [load_file(path / "classifier.safetensors") for path in folders]
            layers = [(one["weight"], one["bias"]) for one in tensors]
        results = plain_results(files, layers, "gumbel" if method == "gumbel" else "softmax")
        expected = evaluate_lvis("val.json", results)
        for name in ("ap", "ap50", "ap75", "ap_r", "ap_c", "ap_f"):
            assert told["detection"]["boxes"][name] == pytest.approx(expected[name], abs=1e-4), (method, name)
        (written,) = (folder / "runs/s_cascade/stage2").glob(f"{method}-*/per_class_ap.csv")
        rows = list(csv.DictReader(written.read_text().splitlines()))
        assert [row["name"] for row in rows] == NAMES
        for row in rows:
            assert float(row["ap_box"]) == pytest.approx(expected["per_class"][int(row["category_id"])], abs=1e-3)
        seen.append(told["detection"]["boxes"]["ap"])
    assert 1 < min(seen) < max(seen) < 99.9  # where all or nothing is found, nothing is tested


def test_equal_stages_give_what_one_gives(run_cli: RunCli, folder: Path) -> None:
    for name in ("a.h5", "b.h5", "c.h5"):
        shutil.copy("s2.h5", name)
    done = stage2(run_cli, "a.h5", "b.h5", "c.h5", "--activation", "gumbel", "--method", "norcal", "--name", "three")
    assert done.code == 0, done.err
    of_one, of_three = manifests(folder / "runs" / "a"), manifests(folder / "runs" / "three")
    for method in ("gumbel", "norcal"):
        assert of_three[method]["detection"] == of_one[method]["detection"]
    assert set(of_three) == {"stage_one", "gumbel", "norcal"}


def test_the_report_has_a_row_of_the_mean(run_cli: RunCli, folder: Path) -> None:
    done = stage2(run_cli, *FILES, "--activation", "gumbel", "--seeds", "2")
    assert done.code == 0, done.err
    assert "mean of 3 stages, fresh, 2 epochs" in " ".join(done.out.split())
    assert "mean of 3 stages, stage one, loaded" in " ".join(done.out.split())
    assert "next: gol-decouple report runs/s1 runs/s2 runs/s3 runs/s_cascade --format markdown" in done.err
    rows = json.loads(run_cli("report", "runs", "--format", "json").out)
    means = [row for row in rows if row["run"] == "s_cascade"]
    assert [(row["method"], row["stage"], row["seed"]) for row in means] == [
        ("softmax", 1, 0), ("gumbel", 2, 0), ("gumbel", 2, 1)
    ]  # fmt: skip
    assert all(row["cascade"] == list(FILES) and row["ap_box"] is not None for row in means)
    assert {row["cascade"] for row in rows if row["run"] != "s_cascade"} == {None}
    lines = list(csv.DictReader(run_cli("report", "runs", "--format", "csv").out.splitlines()))
    assert {line["cascade"] for line in lines} == {"", "s1.h5 s2.h5 s3.h5"}
    assert run_cli("report", "runs/s_cascade", "--format", "markdown").out.count("mean of 3 stages") == 2


def test_what_is_finished_is_kept(run_cli: RunCli, folder: Path) -> None:
    command = (*FILES, "--activation", "gumbel")
    assert stage2(run_cli, *command).code == 0
    places = sorted(Path("runs").rglob("manifest.json"))
    before = [path.stat().st_mtime_ns for path in places]
    again = stage2(run_cli, *command)
    assert again.code == 0
    assert again.err.count("is finished and kept as it is") == 3 + 2
    assert [path.stat().st_mtime_ns for path in places] == before
    third = stage2(run_cli, *command, "--overwrite")
    assert "is finished" not in third.err
    assert all(path.stat().st_mtime_ns > then for path, then in zip(places, before, strict=True))


def test_an_old_manifest_never_tells_of_new_figures(
    run_cli: RunCli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*FILES, "--activation", "gumbel")
    assert stage2(run_cli, *command).code == 0
    means = sorted(Path("runs", "s_cascade", "stage2").iterdir())
    real = DetectionEvaluation.evaluate

    def interrupted(self: Any, into: Path, *parts: Any) -> Any:
        found = real(self, into, *parts)
        if into.parent.parent.name == "s_cascade":
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(DetectionEvaluation, "evaluate", interrupted)
        assert stage2(run_cli, *command, "--overwrite").code != 0
    assert [runs.is_finished(mean) for mean in means].count(False) == 1
    assert stage2(run_cli, *command).code == 0
    assert all(runs.is_finished(mean) for mean in means)


def test_other_annotations_are_told_of_what_is_kept(run_cli: RunCli, folder: Path) -> None:
    assert stage2(run_cli, *FILES, "--activation", "gumbel").code == 0
    shutil.copy("val.json", "other.json")
    again = run_cli("stage2", *FILES, "--activation", "gumbel", *FAST, "--annotations", "other.json")
    assert again.code == 0
    assert again.err.count("it was evaluated with other settings (val.json, 12 images") == 5


def test_many_are_evaluated_some_at_a_time(run_cli: RunCli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = (*FILES, "--activation", "gumbel", "--method", "norcal", "--seeds", "2")
    assert stage2(run_cli, *command, "--name", "together").code == 0
    monkeypatch.setattr("gol_decouple.stages.cascade.EVALUATED_TOGETHER", 2)
    assert stage2(run_cli, *command, "--name", "apart").code == 0
    together, apart = ({p.parent.name: p.read_text() for p in Path("runs", name).rglob("per_class_ap.csv")}
                       for name in ("together", "apart"))  # fmt: skip
    assert len(together) == 4
    assert together == apart


def test_without_a_classifier_in_one_there_is_no_stage_one(run_cli: RunCli, folder: Path) -> None:
    write_stage(folder / "s2.h5", 2, classifier=None)
    done = stage2(run_cli, *FILES, "--method", "norcal", "--activation", "gumbel")
    assert done.code == 0, done.err
    assert set(manifests(folder / "runs" / "s_cascade")) == {"norcal", "gumbel"}


def test_what_failed_in_one_stage_has_no_mean(run_cli: RunCli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = classifier.Saved._results

    def failing(self: Any, jobs: Any) -> Any:
        for job, result in real(self, jobs):
            lost = job.method.name == "gol" and "s2" in str(self._work.features.path)
            yield job, (classifier.InputError("gol diverged") if lost else result)

    monkeypatch.setattr(classifier.Saved, "_results", failing)
    done = stage2(run_cli, *FILES, "--method", "gol", "--activation", "gumbel")
    assert done.code == 2
    assert "error: gol diverged" in done.err
    assert set(manifests(folder / "runs" / "s_cascade")) == {"stage_one", "gumbel"}
    assert set(manifests(folder / "runs" / "s3")) == {"gol", "gumbel"}


def renamed(folder: Path) -> None:
    write_stage(folder / "s2.h5", 2, class_names=["cat", "hound", "fox"])


def other_images(folder: Path) -> None:
    write_stage(folder / "s2.h5", 2, replace(TEST, ids=TEST.ids[::-1]))


def other_counts(folder: Path) -> None:
    labels, num_rois = TEST.labels.copy(), TEST.num_rois.copy()
    at = int(np.argmax(num_rois))
    labels[at * PER_IMAGE + num_rois[at] - 1] = -1
    write_stage(folder / "s2.h5", 2, replace(TEST, labels=labels))


def other_split(folder: Path) -> None:
    given = arguments(make(40, 12), TEST)
    given["splits"]["val"] = given["splits"].pop("test")
    rois = {"val" if name == "test" else name: one for name, one in given["detection"].rois.items()}
    features.write(folder / "s2.h5", **given | {"detection": replace(given["detection"], rois=rois)}, overwrite=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (renamed, "s1.h5 and s2.h5 are not of one cascade: class names: class 1 'dog' -> 'hound'"),
        (other_images, "s1.h5 and s2.h5 are not of one cascade: their test images differ, or the images' order"),
        (other_counts, "has 6 RoIs and 5"),
        (other_split, "are not of one cascade: they have ['train', 'test'] and ['train', 'val']"),
    ],
)
def test_files_of_several_detectors_are_refused(
    run_cli: RunCli, folder: Path, change: Callable[[Path], None], told: str
) -> None:
    change(folder)
    if change is renamed:
        tree = json.loads(Path("val.json").read_text())
        tree["categories"].append({"id": 9, "name": "hound", "frequency": "r"})
        Path("val.json").write_text(json.dumps(tree))
    done = stage2(run_cli, *FILES, "--activation", "gumbel")
    assert done.code == 2
    assert told in done.err
    assert not Path("runs").exists()


def test_files_are_of_one_detector_in_their_order(run_cli: RunCli, folder: Path) -> None:
    """As far as they say what they are of; those of other programs need not."""
    for number, (name, stage) in enumerate((("a", 1), ("b", 2), ("c", 1)), start=1):
        origin = {"dataset": {"name": "made"}, "rois": {"stage": stage}, "backbone": {"name": "x", "sha256": "1"}}
        origin["backbone"]["sha256"] = "2" if name == "c" else "1"
        write_stage(Path(f"{name}.h5"), number, origin=origin)
    wrong = run_cli("stage2", "b.h5", "a.h5", "--activation", "gumbel", *FAST, "--annotations", "val.json")
    assert wrong.code == 2
    assert "b.h5 is of stage 2 and a.h5 of stage 1" in wrong.err
    others = run_cli("stage2", "c.h5", "b.h5", "--activation", "gumbel", *FAST, "--annotations", "val.json")
    assert others.code == 2
    assert "are not of one cascade: backbone.sha256: 2 -> 1" in others.err
    assert not Path("runs").exists()


def test_files_that_are_no_stages_are_refused(run_cli: RunCli, folder: Path, gaussians: Path) -> None:
    def error(*arguments: object) -> str:
        done = run_cli("stage2", *arguments, "--activation", "gumbel", *FAST)
        assert done.code == 2
        assert not Path("runs").exists()
        return done.err

    Path("again.h5").symlink_to("s1.h5")
    assert "error: again.h5 is there twice" in error("s1.h5", "s2.h5", "again.h5", "--annotations", "val.json")
    assert "s1.h5 is there twice" in error("s1.h5", "s1.h5", "--annotations", "val.json")
    samples = error(gaussians, "s2.h5", "--annotations", "val.json")
    assert "holds samples, not RoIs: it is no stage of a cascade" in samples
    assert "average precision needs the annotations of its test images" in error("s1.h5", "s2.h5")
    alone = error("s1.h5", "--annotations", "val.json", "--name", "mine")
    assert "--name mine is for the results of a cascade" in alone
    assert "'a/b' is not the name of a folder" in error("s1.h5", "s2.h5", "--annotations", "val.json", "--name", "a/b")
    taken = error("s1.h5", "s2.h5", "--annotations", "val.json", "--name", "s2")
    assert "results of the cascade would go to runs/s2, which has the results of s2.h5" in taken
    grid = error("s1.h5", "s2.h5", "--annotations", "val.json", "--set", "stage2.lr=[1e-4,1e-5]")
    assert "whose accuracy is nothing to choose settings or methods by" in grid


def test_a_run_is_no_stage(run_cli: RunCli, folder: Path, finished_run: Path) -> None:
    run = Path(shutil.copytree(finished_run, folder / "others" / finished_run.name))
    done = run_cli("stage2", "s1.h5", run, "--activation", "gumbel", "--annotations", "val.json")
    assert done.code == 2
    assert f"{run} is a run: the stages of a cascade are features files" in done.err
    named = run_cli("stage2", *FILES[:2], "--activation", "gumbel", "--runs-dir", run.parent, "--name", run.name)
    assert named.code == 2
    assert "which is a run of its own" in named.err


@pytest.mark.parametrize(
    ("stems", "name"),
    [
        (("htc_stage1", "htc_stage2"), "htc_cascade"),
        (("my.rois-1", "my.rois-2", "my.rois-3"), "my.rois_cascade"),
        (("stage1", "stage2"), "stage1+stage2"),
        (("first", "last"), "first+last"),
    ],
)
def test_the_name_of_a_cascade(tmp_path: Path, stems: tuple[str, ...], name: str) -> None:
    stages = [Target(tmp_path / f"{stem}.h5", tmp_path / stem, None) for stem in stems]
    assert cascade_folder(stages, tmp_path) == tmp_path / name


# Stopped


def test_rois_that_are_stopped_in_their_evaluation_are_not_trained_again(
    run_cli: RunCli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several are evaluated in one pass, at the end."""
    command = ("s1.h5", "--activation", "gumbel", "--activation", "softmax", "--seeds", 2)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DetectionEvaluation, "evaluate_together", stop)
        assert stage2(run_cli, *command).code == 130
    there = sorted(folder.glob("runs/s1/stage2/*"))
    assert [sorted(path.name for path in one.iterdir()) for one in there] == [[CLASSIFIER, runs.LOG, STATE]] * 4
    trained = {one.name: (one / CLASSIFIER).read_bytes() for one in there}
    with monkeypatch.context() as patch:
        patch.setattr(Stack, "step", stop)
        done = stage2(run_cli, *command)
    assert done.code == 0, done.err
    assert done.err.count(": it was trained before, and is evaluated now\n") == 4
    assert {one.name: (one / CLASSIFIER).read_bytes() for one in there} == trained
    assert all(runs.is_finished(one) and not (one / STATE).exists() for one in there)


# Beside others


def test_a_cascade_works_alone_on_its_folder_and_on_those_of_its_stages(run_cli: RunCli, folder: Path) -> None:
    for held in ("s1", "s3", "s_cascade"):
        with runs.working_on(folder / "runs" / held):
            refused = stage2(run_cli, *FILES, "--activation", "gumbel")
        assert refused.code == 3
        assert f"error: another process is working on runs/{held}\nhint: wait until it is done" in refused.err
    assert not list(folder.glob("runs/*/stage2"))
    with runs.working_on(folder / "runs" / "s2"):
        assert stage2(run_cli, "s1.h5", "--activation", "gumbel").code == 0


def test_stages_of_one_name_are_refused(run_cli: RunCli, folder: Path) -> None:
    (folder / "later").mkdir()
    shutil.copyfile("s2.h5", "later/s1.h5")
    refused = stage2(run_cli, "s1.h5", "later/s1.h5", "--activation", "gumbel", "--name", "both")
    assert refused.code == 2
    assert "results of s1.h5 and later/s1.h5 would go to one folder, runs/s1" in refused.err
