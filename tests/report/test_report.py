"""Rows and tables from manifests alone."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from gol_decouple.class_stats import long_tail_counts
from gol_decouple.errors import InputError
from gol_decouple.report import rows as report_rows
from gol_decouple.report import tables, written
from gol_decouple.report.collected import Collected
from gol_decouple.report.formats import Format
from gol_decouple.report.layout import TextTable

REQUIRED = {
    *("run", "dataset", "imbalance_factor", "backbone", "stage", "method", "activation", "loss", "sampler"),
    *("classifier", "seed", "split", "top1", "top1_balanced", "top1_many", "top1_medium", "top1_few"),
    *("num_many", "num_medium", "num_few", "seconds"),
}


def manifest(folder: Path, **changes: object) -> Path:
    """A finished folder: CIFAR100-LT's class counts with imbalance factor 100, unless changed."""
    metrics = {"top1": 40.0, "top1_balanced": 40.0, "top1_many": 60.0, "top1_medium": 40.0, "top1_few": 10.0}
    tree = {
        "stage": 2,
        "run": "lt",
        "dataset": "cifar100",
        "imbalance_factor": 100.0,
        "backbone": "resnet32",
        "features": {"fingerprint": "f" * 64},
        "train_counts": long_tail_counts(500, 100, 100),
        "method": "gumbel",
        "activation": "gumbel",
        "loss": "cross_entropy",
        "sampler": "random",
        "classifier": "linear",
        "seed": 0,
        "settings": {"start": "stage_one", "lr": 3e-5, "epochs": 15},
        "changed_settings": {},
        "split": "test",
        "metrics": metrics | {"num_many": 35, "num_medium": 35, "num_few": 30} | changes.pop("metrics", {}),
        "seconds": 1.5,
    }
    tree |= changes
    if tree["stage"] == 2 and folder.parent.name != "stage2":
        folder = folder.parent / tree["run"] / "stage2" / folder.name
    folder.mkdir(parents=True)
    if tree["stage"] == 1:
        (folder / "config.toml").write_text("")
    (folder / "manifest.json").write_text(json.dumps(tree))
    return folder


def stage_one(folder: Path, **changes: object) -> Path:
    parts = {"stage": 1, "method": "softmax", "activation": "softmax", "settings": {"lr": 0.1, "epochs": 240}}
    return manifest(folder, **(parts | changes))


def collect(path: Path) -> list[report_rows.Row]:
    return report_rows.collect_rows([path], path)


def shown(found: list[report_rows.Row], width: int = 160, paper: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width)
    tables.print_leveled(tables.leveled_tables(found, paper), console)
    return console.file.getvalue()


def dataset_tables(found: list[report_rows.Row], paper: bool = False) -> list[TextTable]:
    """All but those of gains."""
    return [table for _, table in tables.leveled_tables(found, paper) if not table.has_intervals]


def to_markdown(found: list[report_rows.Row], paper: bool = False) -> str:
    text = written.of_rows(Collected(found, found), Format.markdown, paper)
    assert isinstance(text, str)
    return text


def test_json_has_one_object_a_run_and_seed_with_every_key(tmp_path: Path) -> None:
    stage_one(tmp_path / "lt")
    for seed in (0, 1):
        manifest(tmp_path / "lt" / "stage2" / f"gumbel-seed{seed}", seed=seed, metrics={"top1_few": None})
    objects = json.loads(tables.to_json(collect(tmp_path)))
    assert [(o["stage"], o["method"], o["seed"]) for o in objects] == [
        (1, "softmax", 0),
        (2, "gumbel", 0),
        (2, "gumbel", 1),
    ]
    assert set(objects[0]) >= REQUIRED
    assert objects[1]["top1_few"] is None
    assert objects[1]["top1"] == 40.0


def test_csv_has_the_same_rows(tmp_path: Path) -> None:
    stage_one(tmp_path / "lt")
    manifest(tmp_path / "lt" / "stage2" / "a", metrics={"top1_few": None}, changed_settings={"lr": 0.5, "epochs": 3})
    found = list(csv.DictReader(io.StringIO(tables.to_csv(collect(tmp_path)))))
    assert len(found) == 2
    assert found[1]["top1_few"] == ""
    assert found[1]["changed_settings"] == "epochs=3 lr=0.5"


def test_the_recipe_says_where_stage_one_ended_early(tmp_path: Path) -> None:
    stage_one(tmp_path / "lt", settings={"lr": 0.1, "epochs": 240, "max_steps": 20})
    (row,) = collect(tmp_path)
    assert row["changed_settings"] == {"max_steps": 20}
    assert "stage one, 240 epochs, lr 0.1, max_steps 20" in shown([row])


def test_table_averages_seeds_and_gives_their_sample_deviation(tmp_path: Path) -> None:
    for seed, top1 in enumerate((40.0, 41.0, 45.0)):
        manifest(tmp_path / f"s{seed}", seed=seed, metrics={"top1": top1, "top1_balanced": top1})
    (table,) = dataset_tables(collect(tmp_path))
    (cells,) = table.cells
    assert dict(zip(table.columns, cells, strict=True))["top-1"] == "42.0±2.6"
    assert dict(zip(table.columns, cells, strict=True))["seeds"] == "3"


def test_seeds_are_averaged_only_within_equal_settings(tmp_path: Path) -> None:
    manifest(tmp_path / "a", seed=0)
    manifest(
        tmp_path / "b", seed=1, settings={"start": "stage_one", "lr": 1e-3, "epochs": 15}, changed_settings={"lr": 1e-3}
    )
    manifest(tmp_path / "c", seed=0, changed_settings={"q_min": -6.0})
    (table,) = dataset_tables(collect(tmp_path))
    recipes = [dict(zip(table.columns, cells, strict=True))["recipe"] for cells in table.cells]
    assert sorted(recipes) == [
        "from stage one, 15 epochs, lr 0.001",
        "from stage one, 15 epochs, lr 3e-05",
        "from stage one, 15 epochs, lr 3e-05, q_min -6.0",
    ]


def test_views_stand_in_the_recipe_and_set_results_apart(tmp_path: Path) -> None:
    manifest(tmp_path / "a", seed=0)
    manifest(tmp_path / "b", seed=1, views=10, changed_settings={"views": "random"})
    found = collect(tmp_path)
    assert [row["views"] for row in found] == [1, 10]
    (table,) = dataset_tables(found)
    assert [cells[1] for cells in table.cells] == [
        "from stage one, 15 epochs, lr 3e-05",
        "from stage one, 15 epochs, lr 3e-05, 10 views",
    ]


def test_results_of_other_features_are_no_further_seeds(tmp_path: Path) -> None:
    manifest(tmp_path / "a", seed=0)
    manifest(tmp_path / "b", seed=1, features={"fingerprint": "e" * 64})
    (table,) = dataset_tables(collect(tmp_path))
    assert len(table.cells) == 2


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path: Path) -> None:
    manifest(tmp_path / "a", dataset="[/x]", run="[bold]")
    assert "[bold]: [/x], imbalance factor" in shown(collect(tmp_path))


def test_an_empty_group_is_a_dash(tmp_path: Path) -> None:
    manifest(tmp_path / "a", metrics={"top1_few": None, "num_few": 0})
    (table,) = dataset_tables(collect(tmp_path))
    assert dict(zip(table.columns, table.cells[0], strict=True))["few (0)"] == "–"


def test_balanced_accuracy_is_shown_where_it_differs(tmp_path: Path) -> None:
    manifest(tmp_path / "a")
    assert "balanced" not in dataset_tables(collect(tmp_path))[0].columns
    manifest(tmp_path / "b", metrics={"top1_balanced": 31.0})
    assert "balanced" in dataset_tables(collect(tmp_path))[0].columns


@pytest.mark.parametrize(("factor", "softmax", "gumbel"), [(50, 46.2, 49.0), (100, 42.4, 45.5), (200, 38.3, 41.5)])
def test_the_papers_figures_stand_beside_its_class_counts(
    tmp_path: Path, factor: int, softmax: float, gumbel: float
) -> None:
    counts = long_tail_counts(500, 100, factor)
    stage_one(tmp_path / "a", train_counts=counts)
    manifest(tmp_path / "b", train_counts=counts)
    manifest(tmp_path / "c", train_counts=counts, method="gumbel_paper")
    assert [row["paper_top1"] for row in collect(tmp_path)] == [softmax, gumbel, gumbel]
    (table,) = dataset_tables(collect(tmp_path), paper=True)
    assert [cells[1:] for cells in table.cells[3:]] == [
        ["paper: softmax", "GOL, ECCV 2022, Table 4", "–", str(softmax), "–", "–", "–"],
        ["paper: gumbel", "GOL, ECCV 2022, Table 4", "–", str(gumbel), "–", "–", "–"],
    ]
    assert table.quoted == 2
    assert "paper: GOL, ECCV 2022, Table 4; quoted, not measured here" in shown(collect(tmp_path), paper=True)
    assert "paper:" not in shown(collect(tmp_path))


def places_counts(real_data: Path) -> list[int]:
    labels = [int(line.split()[-1]) for line in (real_data / "lists" / "Places_LT_train.txt").read_text().splitlines()]
    return np.bincount(labels).tolist()


def test_the_papers_figures_for_places_stand_beside_its_published_list(tmp_path: Path, real_data: Path) -> None:
    for number, backbone in enumerate(("timm:resnet152.tv_in1k", "torchvision:resnet152", "timm:resnet50")):
        counts = places_counts(real_data)
        stage_one(tmp_path / f"a{number}", backbone=backbone, train_counts=counts)
        manifest(tmp_path / f"b{number}", backbone=backbone, train_counts=counts)
    found = {(row["backbone"], row["stage"]): row["paper_top1"] for row in collect(tmp_path)}
    assert [found[name, stage] for name in ("timm:resnet152.tv_in1k", "torchvision:resnet152") for stage in (1, 2)] == [
        *(28.7, 30.0),
        *(28.7, 30.0),
    ]
    assert found["timm:resnet50", 2] is None


@pytest.mark.parametrize(("backbone", "softmax", "gumbel"), [("resnet50", 45.2, 48.2), ("seresnet50", 45.9, 48.5)])
def test_the_papers_figures_for_imagenet_lt(tmp_path: Path, backbone: str, softmax: float, gumbel: float) -> None:
    # Counts like ImageNet-LT's in all that is published of them: its train list is not at hand.
    counts = [1280, *[191] * 383, 523, *[80] * 479, *[19] * 135, 5]
    stage_one(tmp_path / "a", backbone=f"timm:{backbone}", train_counts=counts)
    manifest(tmp_path / "b", backbone=f"timm:{backbone}", train_counts=counts)
    assert [row["paper_top1"] for row in collect(tmp_path)] == [softmax, gumbel]
    counts[0] -= 1
    manifest(tmp_path / "c", run="other", backbone=f"timm:{backbone}", train_counts=counts)
    assert [row["paper_top1"] for row in collect(tmp_path) if row["run"] == "other"] == [None]


@pytest.mark.parametrize(
    "changes",
    [
        {"train_counts": [499, *long_tail_counts(500, 100, 100)[1:]]},
        {"backbone": "resnet50"},
        {"backbone": None},
        {"activation": "sigmoid"},
        {"activation": "softmax"},
        {"sampler": "class_balanced"},
        {"loss": "focal"},
    ],
)
def test_no_paper_figure_for_anything_else(tmp_path: Path, changes: dict[str, object]) -> None:
    manifest(tmp_path / "a", **changes)
    assert collect(tmp_path)[0]["paper_top1"] is None


def test_runs_that_cannot_be_compared_are_apart(tmp_path: Path) -> None:
    stage_one(tmp_path / "lt100")
    stage_one(tmp_path / "lt50", run="lt50", imbalance_factor=50.0, train_counts=long_tail_counts(500, 100, 50))
    stage_one(tmp_path / "again", run="again")
    found = dataset_tables(collect(tmp_path))
    assert [len(table.cells) for table in found] == [2, 1]
    assert found[0].columns[0] == "run"
    assert found[1].columns[0] == "method"


def test_markdown_is_a_table_a_dataset(tmp_path: Path) -> None:
    stage_one(tmp_path / "lt")
    manifest(tmp_path / "lt" / "stage2" / "a")
    lines = to_markdown(collect(tmp_path)).splitlines()
    assert lines[0] == "### lt: cifar100, imbalance factor 100, resnet32, test (%)"
    assert lines[2] == "| method | recipe | seeds | top-1 | many (35) | medium (35) | few (30) |"
    assert lines[4] == "| softmax | stage one, 240 epochs, lr 0.1 | 1 | **40.0** | **60.0** | **40.0** | **10.0** |"


@pytest.mark.parametrize("width", [80, 160])
def test_numbers_are_whole_in_a_narrow_terminal(tmp_path: Path, width: int) -> None:
    stage_one(tmp_path / "lt")
    for seed in range(3):
        manifest(tmp_path / f"s{seed}", seed=seed, method="gumbel_paper", metrics={"top1": 40.0 + seed})
    text = shown(collect(tmp_path), width, paper=True)
    assert text.count("41.0") == 1
    assert text.count("±1.0") == 1
    assert text.count("±0.0") == 4
    assert "(35)" in text
    assert "45.5" in text
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())


def test_what_was_tested_otherwise_or_of_a_cascade_is_no_further_seed(tmp_path: Path) -> None:
    manifest(tmp_path / "a", seed=0)
    manifest(tmp_path / "b", seed=1, cascade=[{"features": "one.h5"}])
    first, second = collect(tmp_path)
    assert len(report_rows.by_setting([first, second])) == 2
    tested = [{**first, "test_settings": {"score_threshold": one}} for one in (0.05, 0.0001, 0.05)]
    assert [len(setting) for setting in report_rows.by_setting(tested)] == [2, 1]


def test_a_run_that_is_named_twice_is_there_once(tmp_path: Path) -> None:
    folder = stage_one(tmp_path / "lt")
    manifest(tmp_path / "lt" / "stage2" / "a")
    (tmp_path / "link").symlink_to(folder)
    found = report_rows.collect_rows([folder, tmp_path / "lt" / ".." / "lt", tmp_path / "link"], tmp_path)
    assert len(found) == 2


def test_manifests_of_other_programs_are_not_ours(tmp_path: Path) -> None:
    stage_one(tmp_path / "lt")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text('{"name": "an app"}')
    assert len(collect(tmp_path)) == 1


def test_a_run_is_called_as_its_folder_wherever_it_was_moved(tmp_path: Path) -> None:
    stage_one(tmp_path / "moved", run="old")
    manifest(tmp_path / "moved" / "stage2" / "a", run="old")
    assert {row["run"] for row in collect(tmp_path)} == {"moved"}


def test_a_start_that_was_trained_on_the_features_is_named(tmp_path: Path) -> None:
    manifest(tmp_path / "a", started_from="softmax-seed0-abc")
    (table,) = dataset_tables(collect(tmp_path))
    assert table.cells[0][1] == "from a Softmax classifier trained on the features, 15 epochs, lr 3e-05"


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run in"):
        collect(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        collect(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["{", "[]", '{"stage": 2}', '{"stage": 2, "settings": {}, "metrics": 3}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str) -> None:
    folder = manifest(tmp_path / "a")
    (folder / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=str(folder / "manifest.json")):
        collect(tmp_path)
