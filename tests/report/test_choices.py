"""What the report says of settings that were chosen, and of what was trained on more than train."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import RunCli
from test_report import collect, dataset_tables, manifest, shown, to_markdown

from gol_decouple.errors import InputError
from gol_decouple.report import choices, tables

LRS = [{"settings": {"lr": 0.1}, "value": 30.26}, {"settings": {}, "value": 41.0}, {"settings": {"lr": 9}, "value": 5}]


def chosen(folder: Path, tried: list[dict[str, Any]] | None = None, held_out: str = "val", **changes: Any) -> Path:
    """A classifier that was chosen among what was tried."""
    made = manifest(folder, **changes)
    tree = {"held_out": held_out, "criterion": "top1_balanced", "value": 41.0, "tried": tried or LRS}
    (made / "choice.json").write_text(json.dumps(tree))
    return made


def lines(path: Path) -> list[str]:
    """The markdown table's lines and notes."""
    return to_markdown(collect(path)).splitlines()


def notes(path: Path) -> list[str]:
    """Those below the table on what was chosen."""
    return [line.removeprefix("- ") for line in lines(path) if "mean over classes" in line]


def one(value: float | None, **settings: Any) -> dict[str, Any]:
    return {"settings": settings, "value": value}


def test_json_has_what_was_tried_and_on_what(tmp_path: Path) -> None:
    chosen(tmp_path / "a")
    manifest(tmp_path / "b", method="softmax", activation="softmax")
    gumbel, softmax = json.loads(tables.to_json(collect(tmp_path)))
    assert (gumbel["chosen_on"], gumbel["tried"]) == ("val", LRS)
    assert (softmax["chosen_on"], softmax["tried"]) == (None, None)
    assert [row["trained_on"] for row in (gumbel, softmax)] == ["train", "train"]


def test_csv_has_it_as_json(tmp_path: Path) -> None:
    chosen(tmp_path / "a")
    manifest(tmp_path / "b", method="softmax", activation="softmax", trained_on="train + val")
    gumbel, softmax = csv.DictReader(io.StringIO(tables.to_csv(collect(tmp_path))))
    assert json.loads(gumbel["tried"]) == LRS
    assert (softmax["chosen_on"], softmax["tried"]) == ("", "")
    assert [row["trained_on"] for row in (gumbel, softmax)] == ["train", "train + val"]


def test_the_recipe_says_of_how_many_it_is_the_best(tmp_path: Path) -> None:
    chosen(tmp_path / "a", held_out="20 train samples held out")
    manifest(tmp_path / "b", method="softmax")
    gumbel, softmax = dataset_tables(collect(tmp_path))[0].cells
    assert gumbel[1] == "from stage one, 15 epochs, lr 3e-05, best of 3 on 20 train samples held out"
    assert softmax[1] == "from stage one, 15 epochs, lr 3e-05"
    assert "best of 3 on 20 train samples" in " ".join(shown(collect(tmp_path)).split())


def test_seeds_of_a_choice_are_one_row_and_one_note(tmp_path: Path) -> None:
    for seed in range(3):
        chosen(tmp_path / f"s{seed}", seed=seed)
    (table,) = dataset_tables(collect(tmp_path))
    assert [cells[2] for cells in table.cells] == ["3"]
    assert len(notes(tmp_path)) == 1


def test_the_note_has_what_was_tried_the_best_first_and_what_failed_last(tmp_path: Path) -> None:
    tried = [one(None, lr=1e38), one(30.26, lr=0.1), one(41.04), one(0.0, lr=9), one(None, lr=1e37)]
    chosen(tmp_path / "a", tried)
    assert notes(tmp_path) == [
        "gumbel, val, mean over classes: 41.0 (defaults), 30.3 (lr 0.1), 0.0 (lr 9), failed (lr 1e+38), "
        "failed (lr 1e+37)"
    ]
    assert notes(tmp_path)[0] in shown(collect(tmp_path), 200)


def test_what_all_have_in_common_is_not_repeated(tmp_path: Path) -> None:
    chosen(tmp_path / "a", [one(40.0, epochs=5, lr=0.1), one(41.0, epochs=5), one(39.0, q_min=-3.0, epochs=5)])
    assert notes(tmp_path) == ["gumbel, val, mean over classes: 41.0 (defaults), 40.0 (lr 0.1), 39.0 (q_min -3)"]


def test_settings_of_equal_names_and_other_values_are_not_common(tmp_path: Path) -> None:
    chosen(tmp_path / "a", [one(40.0, epochs=5, variant="rel"), one(41.0, epochs=50, variant="rel")])
    assert notes(tmp_path) == ["gumbel, val, mean over classes: 41.0 (epochs 50), 40.0 (epochs 5)"]


@pytest.mark.parametrize(("count", "more"), [(8, ""), (9, " and 1 more"), (30, " and 22 more")])
def test_no_more_than_eight_are_told(tmp_path: Path, count: int, more: str) -> None:
    chosen(tmp_path / "a", [one(float(place), lr=place) for place in range(1, count + 1)])
    (note,) = notes(tmp_path)
    assert note.count("(lr ") == 8
    assert note.endswith(f"{count - 7}.0 (lr {count - 7}){more}")
    assert f"best of {count} on val" in "\n".join(lines(tmp_path))


def test_what_had_one_setting_alone_was_not_chosen(tmp_path: Path) -> None:
    """Its candidate decided its temperature, or its method."""
    chosen(tmp_path / "a", [one(41.0)])
    assert notes(tmp_path) == []
    assert "best of" not in "\n".join(lines(tmp_path))


@pytest.mark.parametrize("count", [5, 6])
def test_of_many_choices_a_note_says_where_to_read(tmp_path: Path, count: int) -> None:
    for name in range(count):
        chosen(tmp_path / f"{name}", method=f"m{name}")
    manifest(tmp_path / "other", method="other")
    if count == 5:
        assert [note.split(",")[0] for note in notes(tmp_path)] == ["m0", "m1", "m2", "m3", "m4"]
        assert "choice.json" not in "\n".join(lines(tmp_path))
    else:
        assert notes(tmp_path) == [
            "best on what was held out, by the mean over classes; choice.json beside a classifier has what was tried"
        ]


def test_rows_alone_count_where_notes_are_counted(tmp_path: Path) -> None:
    """Not seeds, nor what had one setting."""
    for seed in range(7):
        chosen(tmp_path / f"s{seed}", seed=seed)
    for name in range(4):
        chosen(tmp_path / f"m{name}", [one(41.0)], method=f"m{name}")
    assert [note.split(",")[0] for note in notes(tmp_path)] == ["gumbel"]


@pytest.mark.parametrize("settings", [{}, {"lr": 1e-5}, {"lr": 3e-3, "epochs": 2, "variant": "rel"}])
def test_settings_in_words(settings: dict[str, Any]) -> None:
    words = {0: "defaults", 1: "lr 1e-05", 3: "epochs 2, lr 0.003, variant rel"}
    assert choices.settings_in_words(settings) == words[len(settings)]


# What it was trained on


def test_what_was_trained_on_val_too_says_so_and_has_no_paper_figure(tmp_path: Path) -> None:
    manifest(tmp_path / "a")
    manifest(tmp_path / "b", trained_on="train + val")
    found = collect(tmp_path)
    assert [(row["trained_on"], row["paper_top1"]) for row in found] == [("train", 45.5), ("train + val", None)]
    (table,) = dataset_tables(found)
    assert [cells[1] for cells in table.cells] == [
        "from stage one, 15 epochs, lr 3e-05",
        "from stage one, 15 epochs, lr 3e-05, trained on train + val",
    ]
    assert [table.quoted for table in dataset_tables(found[1:], paper=True)] == [0]


def test_what_was_trained_on_other_samples_is_no_further_seed(tmp_path: Path) -> None:
    for seed, trained_on in enumerate(["train", "train + val", "train", "train without 20 samples"]):
        manifest(tmp_path / f"{seed}", seed=seed, trained_on=trained_on)
    (table,) = dataset_tables(collect(tmp_path))
    assert sorted(cells[2] for cells in table.cells) == ["1", "1", "2"]


def test_a_manifest_of_before_there_were_samples_is_of_train(tmp_path: Path) -> None:
    folder = manifest(tmp_path / "a", trained_on="train")
    tree = json.loads((folder / "manifest.json").read_text())
    del tree["trained_on"]
    (folder / "manifest.json").write_text(json.dumps(tree))
    (row,) = collect(tmp_path)
    assert (row["trained_on"], row["paper_top1"]) == ("train", 45.5)


def test_recipe_of_a_choice_that_was_trained_on_all(tmp_path: Path) -> None:
    chosen(tmp_path / "a", trained_on="train + val", changed_settings={"q_min": -6.0})
    (cells,) = dataset_tables(collect(tmp_path))[0].cells
    assert cells[1].endswith("lr 3e-05, q_min -6.0, trained on train + val, best of 3 on val")


# Where choice.json is damaged


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '"val"', "\x00", '{"held_out": "val", "tried": [1, 2]'])
def test_a_choice_that_is_no_json_is_named(tmp_path: Path, content: str) -> None:
    folder = chosen(tmp_path / "a")
    (folder / "choice.json").write_text(content)
    with pytest.raises(InputError) as error:
        collect(tmp_path)
    assert error.value.message.startswith(f"{folder / 'choice.json'} ")


def test_a_damaged_choice_ends_the_command_with_its_name(tmp_path: Path, run_cli: RunCli) -> None:
    folder = chosen(tmp_path / "a")
    (folder / "choice.json").write_bytes(b"\xff{")
    outcome = run_cli("report", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {folder / 'choice.json'} is not readable JSON: ")
