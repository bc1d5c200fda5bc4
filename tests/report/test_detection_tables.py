"""Rows and tables of detections, from manifests alone."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from gol_decouple.errors import InputError
from gol_decouple.report import tables
from gol_decouple.report.paper_detection import FIGURES, V05, V1
from tests.conftest import RunCli
from tests.report.test_report import collect, dataset_tables, manifest, shown, stage_one, to_markdown

SETTINGS = {"score_threshold": 1e-4, "nms_threshold": 0.5, "max_detections": 300}


def figures(ap: float) -> dict[str, float | None]:
    own = {"ap": ap, "ap50": ap + 10, "ap75": ap + 1, "ap_r": ap - 8, "ap_c": None, "ap_f": ap + 5}
    return own | {"ap_s": 1.0, "ap_m": 2.0, "ap_l": 3.0, "ar": 4.0, "ar_s": 5.0, "ar_m": 6.0, "ar_l": 7.0}


def detected(
    folder: Path, masks: float | None = 20.0, boxes: float = 21.0, tested: dict[str, Any] | None = None, **changes: Any
) -> Path:
    """A finished folder of LVIS v1 and a Mask R-CNN with ResNet-50."""
    groups = changes.pop("groups", V1)
    found = {
        "settings": SETTINGS | (tested or {}),
        "annotations": "lvis_v1_val.json",
        "images": changes.pop("images", 19_809),
        **dict(zip(("num_r", "num_c", "num_f"), groups, strict=True)),
        "boxes": figures(boxes),
        "masks": None if masks is None else figures(masks),
    }
    parts = {"dataset": "lvis_v1", "backbone": "torchvision:resnet50", "split": "val", "detection": found}
    of_stage = stage_one if changes.get("stage") == 1 else manifest
    return of_stage(folder, **(parts | changes))


def only_masks(found: dict[str, Any]) -> list[Any]:
    return [found[name] for name in ("ap", "ap50", "ap75", "ap_r", "ap_c", "ap_f")]


def test_rows_have_the_figures_of_masks_and_of_boxes(tmp_path: Path) -> None:
    detected(tmp_path / "a")
    detected(tmp_path / "b", masks=None, method="other")
    manifest(tmp_path / "c", method="plain")
    with_masks, of_boxes, plain = json.loads(tables.to_json(collect(tmp_path)))
    assert only_masks(with_masks) == [20, 30, 21, 12, None, 25]
    assert only_masks(of_boxes) == only_masks(plain) == [None] * 6
    assert [row["ap_box"] for row in (with_masks, of_boxes, plain)] == [21, 21, None]
    assert [with_masks[name] for name in ("ap50_box", "ap_r_box", "num_r", "num_c", "num_f")] == [31, 13, *V1]
    tested = SETTINGS | {"annotations": "lvis_v1_val.json", "images": 19_809, "masks": True}
    assert not of_boxes["test_settings"]["masks"]
    assert [row["test_settings"] for row in (with_masks, plain)] == [tested, None]


def test_rois_need_not_have_been_classified(tmp_path: Path) -> None:
    folder = detected(tmp_path / "a")
    tree = json.loads((folder / "manifest.json").read_text())
    tree["metrics"] = {}
    (folder / "manifest.json").write_text(json.dumps(tree))
    (row,) = collect(tmp_path)
    assert (row["top1"], row["num_few"], row["ece"], row["ap"]) == (None, None, None, 20)
    assert "AP of masks" in shown([row])


def test_csv_has_the_settings_as_a_text(tmp_path: Path) -> None:
    detected(tmp_path / "a")
    manifest(tmp_path / "b", method="plain")
    found = list(csv.DictReader(io.StringIO(tables.to_csv(collect(tmp_path)))))
    assert (found[0]["ap"], found[0]["ap_c"], found[1]["ap"]) == ("20.0", "", "")
    assert found[0]["test_settings"].startswith("score threshold 0.0001, NMS 0.5, 300 detections an image, 19,809 im")
    assert found[1]["test_settings"] == ""


def test_a_table_of_masks_has_the_papers_columns_and_how_it_was_tested(tmp_path: Path) -> None:
    detected(tmp_path / "lt", stage=1, masks=15.0, boxes=16.0)
    for seed, ap in enumerate((20.0, 21.0, 25.0)):
        detected(tmp_path / f"s{seed}", masks=ap, seed=seed)
    table = dataset_tables(collect(tmp_path))[0]
    assert table.title == "lt: lvis_v1, torchvision:resnet50, val, AP of masks"
    assert table.columns[3:] == ["AP", "AP50", "AP75", "APr (337)", "APc (461)", "APf (405)", "APb"]
    stage_one_row, gumbel = table.cells
    assert stage_one_row[1:] == [
        "stage one, 240 epochs, lr 0.1",
        "1",
        *("15.0", "25.0", "16.0", "7.0", "–", "20.0", "16.0"),
    ]
    assert gumbel[2:5] == ["3", "22.0±2.6", "32.0±2.6"]
    printed = shown(collect(tmp_path))
    assert (
        "all tested with score threshold 0.0001, NMS 0.5, 300 detections an image, 19,809 images of lvis_v1" in printed
    )
    assert "tested otherwise" not in printed
    assert "many: >" not in printed


def test_boxes_alone_have_their_own_figures(tmp_path: Path) -> None:
    detected(tmp_path / "a", masks=None)
    table = dataset_tables(collect(tmp_path))[0]
    assert table.title.endswith("AP of boxes")
    assert table.columns[3:] == ["AP", "AP50", "AP75", "APr (337)", "APc (461)", "APf (405)"]
    assert table.cells[0][3:] == ["21.0", "31.0", "22.0", "13.0", "–", "26.0"]


@pytest.mark.parametrize(
    "other",
    [
        {"tested": {"nms_threshold": 0.3}},
        {"tested": {"score_threshold": 0.05}},
        {"tested": {"max_detections": 100}},
        {"masks": None},
    ],
)
def test_what_was_tested_otherwise_has_a_table_of_its_own_and_is_told(tmp_path: Path, other: dict[str, Any]) -> None:
    detected(tmp_path / "a")
    detected(tmp_path / "b", method="other", **other)
    found = [table for table in dataset_tables(collect(tmp_path)) if table.title.startswith("lt:")]
    assert [[cells[0] for cells in table.cells] for table in found] == [["gumbel"], ["other"]]
    assert all("tested otherwise are in another table" in table.notes[-1] for table in found)


def test_other_data_detectors_and_splits_are_no_other_test(tmp_path: Path) -> None:
    detected(tmp_path / "a")
    detected(tmp_path / "b", method="b", dataset="coco_lt")
    detected(tmp_path / "c", method="c", backbone="torchvision:resnet18")
    detected(tmp_path / "d", method="d", split="test")
    found = [table for table in dataset_tables(collect(tmp_path)) if table.title.startswith("lt:")]
    assert len(found) == 4
    assert not any("tested otherwise" in note for table in found for note in table.notes)


def test_detections_and_classification_stand_in_one_report(tmp_path: Path) -> None:
    detected(tmp_path / "a", run="boxes", metrics={"top1": None})
    manifest(tmp_path / "b")
    text = to_markdown(collect(tmp_path), paper=True)
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "### lt: cifar100, imbalance factor 100, resnet32, test (%)",
        "### boxes: lvis_v1, torchvision:resnet50, val, AP of masks",
        "#### published for these classes, this detector and this NMS",
    ]


def test_published_figures_are_shown_on_request(tmp_path: Path, run_cli: RunCli) -> None:
    detected(tmp_path / "a")
    assert len(dataset_tables(collect(tmp_path))) == 1
    assert "published" not in run_cli("report", tmp_path).out
    assert "published for these classes" in run_cli("report", tmp_path, "--paper").out


def quoted(tmp_path: Path) -> list[list[str]]:
    found = dataset_tables(collect(tmp_path), paper=True)
    return found[1].cells if len(found) > 1 else []


@pytest.mark.parametrize("backbone", ["torchvision:resnet50", "torchvision:maskrcnn_resnet50_fpn.COCO_V1"])
def test_published_rows_stand_below_their_classes_and_detector(tmp_path: Path, backbone: str) -> None:
    detected(tmp_path / "a", backbone=backbone)
    rows = quoted(tmp_path)
    assert [
        "Gumbel",
        "GOL, ECCV 2022, Table 1: all trained, 1x, random sampling",
        *["19.0", "4.9", "16.8", "27.6", "19.1"],
    ] in rows
    assert [row[2:] for row in rows if row[0] == "Balanced Sigmoid"] == [["25.1", "18.3", "24.0", "29.3", "26.7"]]
    assert [row[2:] for row in rows if row[0] == "DropLoss"] == [["19.8", *"––––"], ["22.3", *"––––"]]
    assert "GOL" not in {row[0] for row in rows}, "it was tested with another NMS"
    assert "quoted, not measured here" in shown(collect(tmp_path), paper=True)


def test_gol_stands_below_its_own_nms(tmp_path: Path) -> None:
    detected(tmp_path / "a", tested={"nms_threshold": 0.3})
    assert [row[:1] + row[2:] for row in quoted(tmp_path)] == [["GOL", *["27.7", "21.4", "27.7", "30.4", "27.5"]]]


def test_gol_with_a_larger_backbone(tmp_path: Path) -> None:
    detected(tmp_path / "a", tested={"nms_threshold": 0.3}, backbone="torchvision:resnet101")
    assert [row[2] for row in quoted(tmp_path)] == ["29.0"]


def test_published_boxes_stand_below_boxes(tmp_path: Path) -> None:
    detected(tmp_path / "a", masks=None)
    rows = quoted(tmp_path)
    assert rows[0] == ["Softmax", "GOL, ECCV 2022, Table 1: all trained, 1x, random sampling", "16.1"]
    assert "DropLoss" not in {row[0] for row in rows}, "its paper has no AP of boxes here"


@pytest.mark.parametrize(
    "other",
    [
        {"groups": (337, 461, 404)},
        {"groups": (None, None, None)},
        {"images": 3},
        {"groups": V05, "images": 19_809},
        {"backbone": "torchvision:resnet18"},
        {"backbone": None},
        {"tested": {"max_detections": 100}},
        {"tested": {"nms_threshold": 0.4}},
    ],
)
def test_nothing_published_stands_below_what_it_is_not(tmp_path: Path, other: dict[str, Any]) -> None:
    detected(tmp_path / "a", **other)
    assert quoted(tmp_path) == []


def test_the_first_version_of_lvis_has_its_own(tmp_path: Path) -> None:
    detected(tmp_path / "a", groups=V05, images=5_000)
    assert [row[0] for row in quoted(tmp_path)] == ["BCE", "EQL", "DropLoss"]


def test_published_figures_are_between_their_groups() -> None:
    for rows in FIGURES.values():
        for row in rows:
            if row.groups is not None:
                rare, *others = row.groups
                assert rare < row.ap < max(others), row
            assert row.box is None or abs(row.box - row.ap) < 2, row


def test_a_manifest_that_lacks_a_part_is_named(tmp_path: Path) -> None:
    folder = detected(tmp_path / "a")
    tree = json.loads((folder / "manifest.json").read_text())
    del tree["detection"]["boxes"]["ap75"]
    (folder / "manifest.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match=r"a/manifest.json is not a manifest of a run: 'ap75' is missing"):
        collect(tmp_path)


def test_the_command_prints_them(tmp_path: Path, run_cli: RunCli) -> None:
    detected(tmp_path / "a")
    outcome = run_cli("report", tmp_path, "--format", "json")
    assert outcome.code == 0
    assert json.loads(outcome.out)[0]["ap_r"] == 12
    assert "AP of masks" in run_cli("report", tmp_path).out


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_digit_is_cut_and_recipes_stay_in_a_narrow_terminal(tmp_path: Path, width: int) -> None:
    for method in ("balanced_sigmoid", "gumbel_published"):
        for seed, boxes in enumerate((20.0, 30.0)):
            settings = {"lr": 0.02, "epochs": 12, "start": "fresh"}
            detected(tmp_path / f"{method}{seed}", None, boxes, method=method, seed=seed, settings=settings)
    printed = shown(collect(tmp_path), width)
    assert max(map(len, printed.splitlines())) <= width
    text = " ".join(printed.split())
    for value in ("25.0", "35.0", "26.0", "17.0", "30.0"):
        assert text.count(value) >= 2, value
    assert text.count("±7.1") == 10
    for word in ("fresh,", "12", "epochs,", "0.02", "balanced_sigmoid", "gumbel_published"):
        assert word in text
