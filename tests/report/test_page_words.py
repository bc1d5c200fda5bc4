"""What the page says of a study, and of its classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from page_runs import found_in, make_run, write_folder
from test_detection_tables import detected

from gol_decouple.bootstrap import Gain
from gol_decouple.progress import SILENT, to_stderr
from gol_decouple.report import gains, rows
from gol_decouple.report.page import classes
from gol_decouple.report.page.studies import Study, studies
from gol_decouple.report.page.summary import summary
from gol_decouple.report.rows import Row


def study(tmp_path: Path, methods: dict[str, list[list[int]]]) -> Study:
    (only,) = studies(found_in(make_run(tmp_path / "lt", methods)))
    return only


def with_gain(found: list[Row], method: str, low: float, high: float, of: str = "top1") -> list[Row]:
    parts = {f"gain_{of}": (low + high) / 2, f"gain_{of}_low": low, f"gain_{of}_high": high}
    return [row | (parts if row["method"] == method else {}) for row in found]


def sentences(tmp_path: Path, *gains: tuple[str, float, float]) -> list[str]:
    """Of two methods with some gains."""
    found = found_in(make_run(tmp_path / "lt", {"crt": [[4, 3, 2]], "lws": [[4, 3, 1]]}))
    for group in ("many", "medium", "few"):
        found = with_gain(with_gain(found, "crt", -1, 1, f"top1_{group}"), "lws", -1, 1, f"top1_{group}")
    for gain in gains:
        found = with_gain(found, *gain)
    return summary(studies(found)[0]).sentences


def test_a_gain_that_is_more_than_chance(tmp_path: Path) -> None:
    assert sentences(tmp_path, ("crt", 2.0, 6.0), ("lws", -1.0, 3.0)) == [
        "crt is the best of 2 retrained classifiers: 75.0 % top-1 accuracy (one seed).",
        "Its gain over stage one is +4.0 [2.0, 6.0] points, more than chance.",
        "The best of several on the same test data is always a little lucky.",
    ]


def test_a_gain_that_may_be_chance_beside_one_that_is_none(tmp_path: Path) -> None:
    said = sentences(tmp_path, ("crt", -2.0, 6.0), ("lws", 1.0, 3.0))
    assert said[1] == "Its gain over stage one is +2.0 [-2.0, 6.0] points, which may be chance."


@pytest.mark.parametrize("of_lws", [(-1.0, 3.0), (-3.0, -1.0)])
def test_no_gain_is_more_than_chance(tmp_path: Path, of_lws: tuple[float, float]) -> None:
    said = sentences(tmp_path, ("crt", -2.0, 6.0), ("lws", *of_lws))
    assert said[1] == "No method gains more than chance over stage one: its own gain is +2.0 [-2.0, 6.0] points."


def test_groups_that_move_are_named_whichever_way(tmp_path: Path) -> None:
    found = found_in(make_run(tmp_path / "lt", {"crt": [[4, 3, 2], [4, 3, 2]]}))
    for group, bounds in (("top1", (1, 2)), ("top1_many", (-4, -2)), ("top1_medium", (-1, 1)), ("top1_few", (5, 9))):
        found = with_gain(found, "crt", *bounds, group)
    said = summary(studies(found)[0])
    assert (said.figure, said.figure_name) == ("75.0", "top-1 accuracy of crt")
    assert said.sentences == [
        "crt is the retrained classifier: 75.0 % top-1 accuracy (mean of 2 seeds).",
        "Its gain over stage one is +1.5 [1.0, 2.0] points, more than chance.",
        "More than chance by group of classes: many -3.0 [-4.0, -2.0], few +7.0 [5.0, 9.0].",
    ]


def test_stage_one_alone(tmp_path: Path) -> None:
    said = summary(study(tmp_path, {}))
    assert (said.figure, said.figure_name) == ("50.0", "top-1 accuracy of stage one")
    assert said.sentences == ["No classifier was retrained yet: gol-decouple stage2 RUN does."]


def test_without_an_interval_there_is_a_difference(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", {"crt": [[4, 3, 2]]})
    for path in run.rglob("predictions.npz"):
        path.unlink()
    said = summary(studies(found_in(run))[0]).sentences
    assert said[1].startswith("stage one has 50.0, a difference of +25.0 points without an interval: predictions")


def test_without_a_baseline(tmp_path: Path) -> None:
    write_folder(tmp_path / "lt" / "stage2" / "a", [4, 3, 2], ("a", "b", "c"), stage=2, method="crt")
    assert summary(studies(found_in(tmp_path))[0]).sentences[1].startswith("There is no baseline")


def test_the_baseline_is_that_of_the_gains(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", {"crt": [[4, 3, 2]], "lws": [[4, 3, 1]]})
    found = gains.add_gains(rows.collect_rows([run], tmp_path), "lws")
    (only,) = studies(found)
    assert only.names == ["stage one", "crt", "lws"]
    assert only.baselines == [2, 2, None]
    assert only.gain(1) == Gain(*(found[1][f"gain_top1{part}"] for part in ("", "_low", "_high")))


def test_a_first_seed_without_predictions_hides_no_gain(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", {"crt": [[4, 3, 2], [4, 4, 2]]})
    (run / "stage2" / "0" / "predictions.npz").unlink()
    found = found_in(run)
    assert found[1]["baseline"] is None
    (only,) = studies(found)
    assert only.gain(1) == Gain(*(found[2][f"gain_top1{part}"] for part in ("", "_low", "_high")))
    assert summary(only).sentences[1].startswith("Its gain over stage one is")


def test_runs_of_other_data_are_other_studies_with_other_titles(tmp_path: Path) -> None:
    for number, changes in enumerate(
        ({}, {"imbalance_factor": 50.0}, {"split": "val"}, {"train_counts": [200, 150, 5]})
    ):
        make_run(tmp_path / f"r{number}", {"crt": [[4, 3, 2]]}, **changes)
    found = studies(found_in(tmp_path))
    assert [len(each.settings) for each in found] == [4, 2, 2]
    assert len({each.title for each in found}) == 3


# Classes


def shown(found: Study) -> classes.Classes:
    made = classes.classes(found, SILENT)
    assert made is not None
    return made


def test_the_data_of_the_script(tmp_path: Path) -> None:
    made = shown(study(tmp_path, {"crt": [[4, 3, 2], [4, 3, 3]], "gumbel": [[4, 2, 1]]}))
    assert json.loads(made.data) == {
        "names": ["red", "green", "blue"],
        "counts": [120, 40, 5],
        "groups": ["many", "medium", "few"],
        "group": [0, 1, 2],
        "methods": [
            {"name": "stage one", "baseline": None, "values": [100, 50, 0], "changes": [None, None, None]},
            {"name": "crt", "baseline": 0, "values": [100, 75, 62.5], "changes": [0, 25, 62.5]},
            {"name": "gumbel", "baseline": 0, "values": [100, 50, 25], "changes": [0, 0, 25]},
        ],
        "shown": 1,
    }


def test_the_table_without_scripts(tmp_path: Path) -> None:
    made = shown(study(tmp_path, {"crt": [[3, 3, 2]]}))
    assert (made.method, made.baseline, made.total) == ("crt", "stage one", 3)
    assert made.rows[0] == classes.ClassRow("red", "120", "many", "100.0", "75.0", "-25.0")
    found = {heading: [(row.name, row.change) for row in rows] for heading, rows in made.extremes.items()}
    assert found["Most gained"] == [("blue", "+50.0"), ("green", "+25.0")]
    assert found["Most lost"] == [("red", "-25.0")]
    assert [name for name, _ in found["Lowest"]] == ["blue", "red", "green"]


def test_changes_are_rounded_after_they_are_found(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", {"crt": [[4, 3, 2]]})
    for path, accuracy in ((run, "83.3333"), (run / "stage2" / "0", "66.6667")):
        text = (path / "per_class.csv").read_text()
        (path / "per_class.csv").write_text(text.replace("100.0", accuracy))
    made = shown(studies(found_in(run))[0])
    assert made.rows[0] == classes.ClassRow("red", "120", "many", "83.3", "66.7", "-16.7")
    assert [row.change for row in made.extremes["Most lost"]] == ["-16.7"]
    assert json.loads(made.data)["methods"][1]["changes"] == [-16.7, 25, 50]


def test_of_very_many_classes_some_are_in_the_table_and_all_in_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classes, "MOST_STATIC", 2)
    made = shown(study(tmp_path, {"crt": [[3, 3, 2]]}))
    assert (len(made.rows), made.total, len(json.loads(made.data)["names"])) == (2, 3, 3)


def test_what_was_never_measured_is_a_dash(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", {"crt": [[3, 3, 2]]})
    path = run / "stage2" / "0" / "per_class.csv"
    path.write_text(path.read_text().replace("75.0", "", 1))
    made = shown(studies(found_in(run))[0])
    assert (made.rows[0].after, made.rows[0].change) == ("–", "–")
    assert json.loads(made.data)["methods"][1]["values"] == [None, 75, 50]


def test_a_damaged_table_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "lt", {"crt": [[3, 3, 2]], "lws": [[3, 3, 1]]})
    (run / "stage2" / "0" / "per_class.csv").write_text("class,name\n0,a\n")
    made = classes.classes(studies(found_in(run))[0], to_stderr())
    assert made is not None
    assert made.left_out == ["crt"]
    assert made.method == "stage one"
    assert "classes of crt are left out" in " ".join(capsys.readouterr().err.split())


def test_classes_of_another_order_are_left_out(tmp_path: Path) -> None:
    make_run(tmp_path / "a", {"crt": [[4, 3, 2]]})
    make_run(tmp_path / "b", {"crt": [[4, 3, 1]]}, ("blue", "green", "red"))
    made = shown(studies(found_in(tmp_path))[0])
    assert made.left_out == ["b: stage one", "b: crt"]


def test_json_that_may_stand_in_a_page() -> None:
    text = classes.embedded({"a": "</script><!--&\u2028\ud800", "b": [1.5, None]})
    assert not set("<>&\u2028\ud800") & set(text)
    assert json.loads(text)["a"] == "</script><!--&\u2028\ud800"
    with pytest.raises(ValueError, match="not JSON compliant"):
        classes.embedded(np.nan)


def test_ap_has_one_decimal_as_in_the_tables(tmp_path: Path) -> None:
    detected(tmp_path / "lt", stage=1, masks=20.26)
    detected(tmp_path / "lt" / "stage2" / "gol", method="gol", masks=21.34)
    said = summary(studies(found_in(tmp_path))[0])
    assert said.figure == "21.3"
    assert "gol is the retrained classifier: 21.3 AP of masks (one seed)." in said.sentences
    assert said.sentences[1].startswith("stage one has 20.3, a difference of +1.1 points without an interval")
