"""Gains in rows and tables, from manifests and predictions alone and from real runs."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunCli
from test_detection_tables import detected
from test_report import collect, manifest, shown, stage_one, to_markdown

from gol_decouple import bootstrap
from gol_decouple.errors import InputError
from gol_decouple.metrics import ACCURACIES
from gol_decouple.report.gains import add_gains
from gol_decouple.report.kinds import GAINS
from gol_decouple.report.rows import Row

# One class of each group, six test samples each.
COUNTS = [500, 50, 5]
LABELS = np.repeat([0, 1, 2], 6)
SIZES = {"num_many": 1, "num_medium": 1, "num_few": 1}
# How many of a class's six samples are right.
BASE, BETTER, BEST = (3, 3, 0), (4, 3, 3), (6, 6, 6)


def predicted(folder: Path, right: tuple[int, int, int], **arrays: Any) -> Path:
    """Predictions of which the first so many of each class are right."""
    hits = np.concatenate([np.arange(6) < count for count in right])
    classes = np.stack([np.where(hits, LABELS, (LABELS + 1) % 3), (LABELS + 2) % 3], axis=1)
    np.savez(folder / "predictions.npz", **{"id": np.arange(18), "label": LABELS, "classes": classes} | arrays)
    return folder


def base(root: Path, right: tuple[int, int, int] = BASE, **changes: Any) -> Path:
    return predicted(stage_one(root / "lt", train_counts=COUNTS, metrics=SIZES, **changes), right)


def method(root: Path, name: str, right: tuple[int, int, int] = BETTER, seed: int = 0, **changes: Any) -> Path:
    folder = root / changes.get("run", "lt") / "stage2" / f"{name}-{len(list(root.rglob('manifest.json')))}"
    manifest(folder, method=name, seed=seed, train_counts=COUNTS, metrics=SIZES, **changes)
    return predicted(folder, right)


def by_method(rows: list[Row]) -> dict[tuple[Any, ...], Row]:
    return {(row["method"], row["seed"]) if row["stage"] == 2 else ("stage_one",): row for row in rows}


def gain_lines(rows: list[Row]) -> list[str]:
    """The markdown table of gains, and what stands below it."""
    lines = to_markdown(rows).splitlines()
    (start,) = (place for place, line in enumerate(lines) if line.startswith("#### "))
    return lines[start:]


def has_gains(row: Row) -> bool:
    assert (row["baseline"] is None) == all(row[name] is None for name in GAINS)
    return row["baseline"] is not None


def test_rows_of_a_setting_have_its_gain_over_stage_one(tmp_path: Path) -> None:
    base(tmp_path)
    for seed, right in enumerate([BETTER, BEST]):
        method(tmp_path, "gumbel", right, seed)
    method(tmp_path, "crt", BASE)
    rows = by_method(add_gains(collect(tmp_path)))
    assert not has_gains(rows["stage_one",])
    gumbel = rows["gumbel", 0]
    assert gumbel["baseline"] == "stage_one"
    assert {name: gumbel[f"gain_{name}"] for name in ACCURACIES} == pytest.approx(
        {
            "top1": 100 * (4 + 12) / 2 / 18,
            "top1_balanced": 100 * (4 + 12) / 2 / 18,
            "top1_many": 100 * (1 + 3) / 2 / 6,
            "top1_medium": 100 * (0 + 3) / 2 / 6,
            "top1_few": 100 * (3 + 6) / 2 / 6,
        }
    )
    assert all(gumbel[f"gain_{name}_low"] < gumbel[f"gain_{name}_high"] for name in ACCURACIES)
    assert [rows["gumbel", 1][name] for name in GAINS] == [gumbel[name] for name in GAINS]
    assert [rows["crt", 0][name] for name in GAINS] == [0.0] * 15


def test_the_gain_is_that_of_the_bootstrap(tmp_path: Path) -> None:
    base(tmp_path)
    method(tmp_path, "gumbel")
    (row,) = [row for row in add_gains(collect(tmp_path)) if row["stage"] == 2]
    right = [np.concatenate([np.arange(6) < count for count in some])[None] for some in (BASE, BETTER)]
    (wanted,) = bootstrap.gains(right[1:], right[0], LABELS, np.array(COUNTS), [True])
    for name, gain in wanted.items():
        assert gain
        assert [row[f"gain_{name}{end}"] for end in ("", "_low", "_high")] == [gain.mean, gain.low, gain.high]


def test_seeds_are_paired_by_number_where_both_have_the_same(tmp_path: Path) -> None:
    """Seeds of both that are equally good are no gain, however much they differ, in any order of folders."""
    seeds = [(2, BASE), (10, BEST)]
    for seed, right in seeds:
        method(tmp_path, "softmax", right, seed)
    for seed, right in reversed(seeds):
        method(tmp_path, "crt", right, seed)
    for seed, right in [(3, BASE), (4, BEST)]:
        method(tmp_path, "gumbel", right, seed)
    rows = by_method(add_gains(collect(tmp_path)))
    assert [rows["crt", 2][f"gain_top1{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
    assert rows["gumbel", 3]["gain_top1"] == 0
    assert rows["gumbel", 3]["gain_top1_low"] < -10
    assert rows["gumbel", 3]["gain_top1_high"] > 10


# Which baseline


def test_without_predictions_of_stage_one_the_baseline_is_softmax(tmp_path: Path) -> None:
    (base(tmp_path) / "predictions.npz").unlink()
    method(tmp_path, "gumbel", BEST)
    method(tmp_path, "softmax", BETTER)
    rows = by_method(add_gains(collect(tmp_path)))
    assert rows["gumbel", 0]["baseline"] == "softmax"
    assert rows["gumbel", 0]["gain_top1"] == pytest.approx(100 * 8 / 18)
    assert not has_gains(rows["softmax", 0])


def test_without_either_there_are_no_gains_and_no_words(tmp_path: Path) -> None:
    method(tmp_path, "gumbel", BEST)
    method(tmp_path, "crt", BETTER)
    rows = collect(tmp_path)
    assert add_gains(rows) == rows
    assert "gain" not in shown(rows)


def test_stage_one_alone_has_nothing_to_compare(tmp_path: Path) -> None:
    (base(tmp_path) / "predictions.npz").write_bytes(b"not read")
    rows = collect(tmp_path)
    assert add_gains(rows) == rows


def test_a_method_can_be_the_baseline(tmp_path: Path) -> None:
    base(tmp_path)
    method(tmp_path, "gumbel", BEST)
    method(tmp_path, "crt", BETTER, changed_settings={"lr": 0.5})
    method(tmp_path, "crt", BASE, seed=1)
    rows = by_method(add_gains(collect(tmp_path), "crt"))
    assert rows["gumbel", 0]["baseline"] == "crt"
    assert rows["gumbel", 0]["gain_top1"] == pytest.approx(100 * 12 / 18), "the setting without changes"
    assert rows["crt", 0]["gain_top1"] == pytest.approx(100 * 4 / 18)
    assert not has_gains(rows["crt", 1])
    assert not has_gains(rows["stage_one",])


def test_a_baseline_with_changed_settings_is_named_with_them(tmp_path: Path) -> None:
    for tau, right in [(0.5, BETTER), (0.7, BEST)]:
        method(tmp_path, "tau_norm", right, changed_settings={"tau": tau})
    method(tmp_path, "gumbel", BEST)
    rows = add_gains(collect(tmp_path), "tau_norm")
    assert [row["baseline"] for row in rows] == ["tau_norm tau=0.5", None, "tau_norm tau=0.5"]
    assert gain_lines(rows)[0] == "#### gain over tau_norm tau=0.5, points, 95 % intervals"


def test_a_baseline_that_is_not_there_is_an_error_that_names_what_is(tmp_path: Path) -> None:
    base(tmp_path)
    method(tmp_path, "gumbel")
    (method(tmp_path, "crt") / "predictions.npz").unlink()
    with pytest.raises(InputError, match="unknown baseline 'crt'") as error:
        add_gains(collect(tmp_path), "crt")
    assert error.value.hint == "choose from: gumbel, stage_one"


def test_a_baseline_where_nothing_has_predictions(tmp_path: Path) -> None:
    (method(tmp_path, "gumbel") / "predictions.npz").unlink()
    rows = collect(tmp_path)
    assert add_gains(rows) == rows
    with pytest.raises(InputError, match="unknown baseline 'gumbel'") as error:
        add_gains(rows, "gumbel")
    assert error.value.hint == "no result here has a predictions.npz"


def test_the_baseline_is_of_the_same_run_and_features(tmp_path: Path) -> None:
    base(tmp_path)
    method(tmp_path, "gumbel", seed=0)
    method(tmp_path, "gumbel", seed=1, features={"fingerprint": "e" * 64})
    method(tmp_path, "gumbel", seed=2, run="other")
    method(tmp_path, "softmax", BEST, run="other")
    rows = by_method(add_gains(collect(tmp_path)))
    assert [rows["gumbel", seed]["baseline"] for seed in range(3)] == ["stage_one", None, "softmax"]
    text = shown(list(rows.values()))
    assert text.index("gain over stage one") < text.index("gain over softmax")
    rows = by_method(add_gains(list(rows.values()), "softmax"))
    assert rows["gumbel", 2]["baseline"] == "softmax"


# Predictions that do not fit


@pytest.mark.parametrize("arrays", [{"id": np.arange(1, 19)}, {"label": LABELS[::-1]}], ids=["ids", "labels"])
def test_rows_of_other_test_samples_have_no_gain(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    base(tmp_path)
    method(tmp_path, "gumbel", BETTER, seed=0)
    predicted(method(tmp_path, "gumbel", seed=1), BEST, **arrays)
    predicted(method(tmp_path, "crt"), BEST, **arrays)
    rows = by_method(add_gains(collect(tmp_path)))
    assert rows["gumbel", 0]["gain_top1"] == pytest.approx(100 * 4 / 18)
    assert not has_gains(rows["gumbel", 1])
    assert not has_gains(rows["crt", 0])


def test_a_row_without_predictions_has_no_gain(tmp_path: Path) -> None:
    base(tmp_path)
    method(tmp_path, "gumbel", BETTER, seed=0)
    (method(tmp_path, "gumbel", BEST, seed=1) / "predictions.npz").unlink()
    rows = by_method(add_gains(collect(tmp_path)))
    assert rows["gumbel", 0]["gain_top1"] == pytest.approx(100 * 4 / 18)
    assert not has_gains(rows["gumbel", 1])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def of_bytes_that_changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:230] = bytes(30)
    path.write_bytes(content)


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, LABELS)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no predictions"),
    "truncated": truncated,
    "changed": of_bytes_that_changed,
    "one array": one_array,
    "without classes": lambda path: np.savez(path, id=np.arange(18), label=LABELS),
    "objects": lambda path: predicted(path.parent, BASE, id=np.array([None] * 18)),
    "texts": lambda path: predicted(path.parent, BASE, label=np.array(["a"] * 18)),
    "of other sizes": lambda path: predicted(path.parent, BASE, label=LABELS[1:]),
    "scores of other classes": lambda path: predicted(path.parent, BASE, scores=np.zeros((18, 3), np.float32)),
    "scores that are texts": lambda path: predicted(path.parent, BASE, scores=np.full((18, 2), "a")),
    "without ranks": lambda path: predicted(path.parent, BASE, classes=LABELS),
    "of no sample": lambda path: np.savez(path, id=LABELS[:0], label=LABELS[:0], classes=np.zeros((0, 5), int)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("which", ["baseline", "method"])
def test_damaged_predictions_are_named(tmp_path: Path, damage: Callable[[Path], Any], which: str) -> None:
    folders = {"baseline": base(tmp_path), "method": method(tmp_path, "gumbel")}
    path = folders[which] / "predictions.npz"
    damage(path)
    with pytest.raises(InputError) as error:
        add_gains(collect(tmp_path))
    assert error.value.message.startswith(f"{path} is not a readable file of predictions: ")
    assert error.value.hint
    assert f"remove {path.parent / 'manifest.json'} and repeat the command that made it" in error.value.hint


def test_damaged_predictions_are_as_if_there_were_none(tmp_path: Path) -> None:
    base(tmp_path)
    folders = {name: method(tmp_path, name, right) for name, right in (("gumbel", BEST), ("crt", BETTER))}
    method(tmp_path, "softmax", BETTER)
    errors: list[InputError] = []

    def baselines() -> dict[str, str | None]:
        rows = add_gains(collect(tmp_path), left_out=errors.append)
        return {row["method"]: row["baseline"] for row in rows if row["stage"] == 2}

    truncated(folders["crt"] / "predictions.npz")
    assert baselines() == {"gumbel": "stage_one", "crt": None, "softmax": "stage_one"}
    assert [str(folders["crt"]) in error.message for error in errors] == [True]
    truncated(tmp_path / "lt" / "predictions.npz")
    assert baselines() == {"gumbel": "softmax", "crt": None, "softmax": None}


def test_a_seed_that_is_none_is_one_of_its_setting(tmp_path: Path) -> None:
    base(tmp_path)
    for seed in (1, None, 0):
        method(tmp_path, "gumbel", BETTER, seed)  # type: ignore[arg-type]
    rows = [row for row in add_gains(collect(tmp_path)) if row["stage"] == 2]
    assert [row["gain_top1"] for row in rows] == [pytest.approx(100 * 4 / 18)] * 3


def test_gains_over_a_method_of_detections_cannot_be(tmp_path: Path, run_cli: RunCli) -> None:
    detected(tmp_path / "lt", stage=1)
    detected(tmp_path / "lt" / "stage2" / "gol", method="gol")
    detected(tmp_path / "lt" / "stage2" / "softmax", method="softmax")
    refused = run_cli("report", tmp_path, "--baseline", "softmax")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "error: no gain over softmax: gains need a predictions.npz, which detections do not have\n"
        "hint: --per-class --baseline softmax compares the AP of classes\n"
    )
    assert "unknown baseline 'softmx'" in run_cli("report", tmp_path, "--baseline", "softmx").err


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_that_are_no_classes_are_damage(tmp_path: Path, label: int) -> None:
    for folder in (base(tmp_path), method(tmp_path, "gumbel")):
        predicted(folder, BASE, label=np.array([*LABELS[1:], label]))
    with pytest.raises(InputError, match="its labels are not of 3 classes"):
        add_gains(collect(tmp_path))


@pytest.mark.parametrize("counts", [None, 5, ["a"], "missing"])
def test_a_manifest_without_class_counts_is_named(tmp_path: Path, counts: Any) -> None:
    folder = base(tmp_path)
    method(tmp_path, "gumbel")
    tree = json.loads((folder / "manifest.json").read_text()) | {"train_counts": counts}
    rows = collect(tmp_path)
    if counts == "missing":
        del tree["train_counts"]
    (folder / "manifest.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match=f"{folder / 'manifest.json'} is not a manifest of a run"):
        add_gains(rows)


# Tables


def test_a_table_of_gains_has_a_line_a_setting(tmp_path: Path) -> None:
    base(tmp_path)
    for seed in range(2):
        method(tmp_path, "gumbel", (3, 3, 6), seed)
    method(tmp_path, "crt", (0, 0, 0))
    heading, _, columns, _, crt, gumbel, _, *notes = gain_lines(add_gains(collect(tmp_path)))
    assert heading == "#### gain over stage one, points, 95 % intervals"
    assert columns == "| method | top-1 | many (1) | medium (1) | few (1) |"
    cells = [line.strip("| ").split(" | ") for line in (crt, gumbel)]
    assert [row[0] for row in cells] == ["crt", "gumbel"]
    assert cells[0][1].startswith("-33.3* [-5")
    assert cells[1][1].startswith("+33.3* [1")
    assert cells[1][2:] == ["+0.0 [0.0, 0.0]", "+0.0 [0.0, 0.0]", "+100.0* [100.0, 100.0]"]
    assert notes == [
        "- baseline: stage one, on the same test samples; intervals of 2,000 draws of test samples and of stage two's "
        "seeds",
        "- an interval that includes 0 may be chance; of 20 comparisons about one excludes 0 (*) by chance",
        "- where there is one seed, chance of the training is not in the interval",
    ]


def test_the_mark_is_for_intervals_that_exclude_0(tmp_path: Path) -> None:
    base(tmp_path)
    method(tmp_path, "gumbel")
    (row,) = [row for row in add_gains(collect(tmp_path)) if row["stage"] == 2]
    row |= {"gain_top1": 0.31, "gain_top1_low": 0.04, "gain_top1_high": 0.6}
    row |= {"gain_top1_many": -0.04, "gain_top1_many_low": -1.0, "gain_top1_many_high": 0.0}
    row |= {"gain_top1_medium": -2.06, "gain_top1_medium_low": -3.0, "gain_top1_medium_high": -0.04}
    row |= dict.fromkeys(("gain_top1_few", "gain_top1_few_low", "gain_top1_few_high"))
    assert gain_lines([row])[4] == "| gumbel | +0.3* [0.0, 0.6] | +0.0 [-1.0, 0.0] | -2.1* [-3.0, 0.0] | – |"


def test_seeds_without_predictions_are_told_below_the_gain_of_the_others(tmp_path: Path) -> None:
    base(tmp_path)
    for name, seeds in (("crt", 3), ("gumbel", 3), ("lws", 2)):
        for seed in range(seeds):
            folder = method(tmp_path, name, seed=seed)
            if seed < {"crt": 1, "gumbel": 2}.get(name, 0):
                (folder / "predictions.npz").unlink()
    lines = gain_lines(add_gains(collect(tmp_path)))
    assert [line for line in lines if "seeds ha" in line] == [
        "- crt: 2 of 3 seeds have predictions of the same test samples",
        "- gumbel: 1 of 3 seeds has predictions of the same test samples",
    ]


def test_several_seeds_need_no_word_on_one(tmp_path: Path) -> None:
    base(tmp_path)
    for seed in range(2):
        method(tmp_path, "gumbel", seed=seed)
    assert "one seed" not in to_markdown(add_gains(collect(tmp_path)))


def test_settings_of_a_method_are_told_apart_and_runs_too(tmp_path: Path) -> None:
    base(tmp_path)
    method(tmp_path, "gumbel")
    method(tmp_path, "gumbel", changed_settings={"lr": 0.5, "epochs": 3})
    method(tmp_path, "crt", changed_settings={"lr": 0.5})
    lines = gain_lines(add_gains(collect(tmp_path)))
    assert lines[2].startswith("| method | recipe | top-1 |")
    assert [line.split(" | ")[:2] for line in lines[4:7]] == [
        ["| crt", ""],
        ["| gumbel", "defaults"],
        ["| gumbel", "epochs 3, lr 0.5"],
    ]
    shutil.copytree(tmp_path / "lt", tmp_path / "again")
    lines = gain_lines(add_gains(collect(tmp_path)))
    assert lines[2].startswith("| run | method | recipe |")
    assert [line.split(" | ")[0] for line in lines[4:10]] == ["| again"] * 3 + ["| lt"] * 3


def test_balanced_gains_are_shown_where_balanced_accuracies_are(tmp_path: Path) -> None:
    base(tmp_path)
    folder = method(tmp_path, "gumbel")
    assert "balanced" not in gain_lines(add_gains(collect(tmp_path)))[2]
    tree = json.loads((folder / "manifest.json").read_text())
    tree["metrics"]["top1_balanced"] = 31.0
    (folder / "manifest.json").write_text(json.dumps(tree))
    assert "| top-1 | balanced | many (1) |" in gain_lines(add_gains(collect(tmp_path)))[2]


def wide_run(root: Path) -> list[Row]:
    """The longest names and figures: every column there can be but that of the run."""
    base(root, BEST)
    for name, changes in [("logit_adjustment", {}), ("logit_adjustment", {"tau": 0.5}), ("gumbel_published", {})]:
        folder = method(root, name, (0, 0, 1), changed_settings=changes)
        tree = json.loads((folder / "manifest.json").read_text())
        tree["metrics"]["top1_balanced"] = 31.0
        (folder / "manifest.json").write_text(json.dumps(tree))
    return add_gains(collect(root))


@pytest.mark.parametrize("width", [80, 100, 160])
def test_gains_are_whole_in_a_narrow_terminal(tmp_path: Path, width: int) -> None:
    text = shown(wide_run(tmp_path), width)
    lines = text[text.index("gain over") :].splitlines()
    assert all(len(line) <= width for line in lines)
    assert "…" not in text
    words = [word for line in lines for word in line.split()]
    assert words.count("-100.0*") == 3 * 2
    assert words.count("[-100.0,") == 3 * 5
    assert words.count("-100.0]") == 3 * 2
    assert words.count("-42.9]") == 3
    assert words.count("logit_adjustment") == 2
    assert "gumbel_published" in words
    assert "tau 0.5" in text


def test_intervals_stand_beside_their_gains_where_there_is_room_and_else_below(tmp_path: Path) -> None:
    base(tmp_path)
    method(tmp_path, "gumbel", (0, 0, 0))
    method(tmp_path, "gumbel", (0, 0, 0), changed_settings={"lr": 0.5})
    rows = add_gains(collect(tmp_path))
    beside = [" ".join(line.split()) for line in shown(rows, 160).splitlines()]
    assert any(line.startswith("gumbel lr 0.5 -33.3* [-5") for line in beside)
    below = [" ".join(line.split()) for line in shown(rows, 70).splitlines()]
    heading = below.index("gain over stage one, points, 95 % intervals")
    place = below.index("gumbel -33.3* -50.0 -50.0 +0.0", heading)
    assert below[place + 1].startswith("[-5")
    assert below[place + 2] == "defaults"
    assert below[place + 3] == below[place]
    assert below[place + 4].startswith("[-5")
    assert below[place + 5] == "lr 0.5"


# The command line


@pytest.fixture
def own_run(tmp_path: Path, finished_run: Path, run_cli: RunCli) -> Path:
    run = Path(shutil.copytree(finished_run, tmp_path / "runs" / finished_run.name))
    # Hardly trained from small weights: a loss that stands out.
    assert run_cli("stage2", run, "--method", "crt", "--set", "stage2.lr=1e-9", "--set", "stage2.epochs=1").code == 0
    outcome = run_cli("stage2", run, "--activation", "softmax", "--activation", "gumbel")
    assert outcome.code == 0, outcome.err
    assert "gain over stage one, points, 95 % intervals" in outcome.out
    return run


def test_every_format_has_gains(own_run: Path, run_cli: RunCli) -> None:
    assert "\ngain over stage one, points, 95 % intervals" in run_cli("report", own_run).out
    assert "\n#### gain over stage one, points" in run_cli("report", own_run, "--format", "markdown").out
    rows = json.loads(run_cli("report", own_run, "--format", "json").out)
    lines = list(csv.DictReader(io.StringIO(run_cli("report", own_run, "--format", "csv").out)))
    assert [row["baseline"] for row in rows] == [None, "stage_one", "stage_one", "stage_one"]
    for row, line in zip(rows, lines, strict=True):
        assert {"baseline", *GAINS} <= set(row)
        for name in ("baseline", *GAINS):
            assert line[name] == ("" if row[name] is None else str(row[name]))
    assert rows[1]["gain_top1_high"] < 0
    for row in rows[1:]:
        for name in ("top1", "top1_balanced", "top1_medium", "top1_few"):
            assert row[f"gain_{name}"] == pytest.approx(row[name] - rows[0][name], abs=1e-6)
            assert row[f"gain_{name}_low"] <= row[f"gain_{name}"] <= row[f"gain_{name}_high"]
        assert row["gain_top1_many"] is None


def test_the_baseline_is_an_option(own_run: Path, run_cli: RunCli) -> None:
    rows = json.loads(run_cli("report", own_run, "--baseline", "softmax", "--format", "json").out)
    assert [row["baseline"] for row in rows] == [None, "softmax", "softmax", None]
    assert "gain over softmax, points" in run_cli("report", own_run, "--baseline", "softmax").out
    refused = run_cli("report", own_run, "--baseline", "gumbl")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "error: unknown baseline 'gumbl'\nhint: did you mean 'gumbel'? choose from: crt, gumbel, softmax, stage_one\n"
    )


def test_damaged_predictions_can_be_made_again(own_run: Path, run_cli: RunCli) -> None:
    before = run_cli("report", own_run, "--format", "csv").out
    (folder,) = (own_run / "stage2").glob("gumbel-*")
    (folder / "predictions.npz").write_bytes(b"")
    outcome = run_cli("report", own_run, "--format", "json")
    assert outcome.code == 2
    assert f"left out: {folder / 'predictions.npz'} is not a readable file of predictions: " in outcome.err
    assert "error: 1 result is damaged and left out\nhint: gol-decouple doctor " in outcome.err
    rows = json.loads(outcome.out)
    assert [row["baseline"] for row in rows] == [None, "stage_one", None, "stage_one"], "the others have their gains"
    (folder / "manifest.json").unlink()
    assert run_cli("stage2", own_run, "--activation", "gumbel").code == 0
    again = csv.DictReader(io.StringIO(run_cli("report", own_run, "--format", "csv").out))
    for one, other in zip(again, csv.DictReader(io.StringIO(before)), strict=True):
        assert one | {"seconds": ""} == other | {"seconds": ""}


def test_a_run_without_predictions_of_a_method_reports_the_others(own_run: Path, run_cli: RunCli) -> None:
    (folder,) = (own_run / "stage2").glob("gumbel-*")
    (folder / "predictions.npz").unlink()
    outcome = run_cli("report", own_run, "--format", "json")
    assert [row["baseline"] for row in json.loads(outcome.out)] == [None, "stage_one", None, "stage_one"]
