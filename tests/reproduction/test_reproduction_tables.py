"""The tables of a reproduction on rows made by hand: means, deviations, differences and intervals."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
from scipy import stats

from gol_decouple import methods
from gol_decouple.config import load_config
from gol_decouple.report import noise
from gol_decouple.report.layout import TextTable
from gol_decouple.report.rows import FIELDS, Row
from gol_decouple.reproduction.plan import METHODS, TABLE_4, columns_of
from gol_decouple.reproduction.records import Record, made_stage1
from gol_decouple.reproduction.results import Results
from gol_decouple.reproduction.tables import tables, tables_of
from gol_decouple.runs import method_settings

IF50, IF100, IF200 = TABLE_4["cifar100_lt"]
RECORD: Record = {"runs": [], "gains_over": {"softmax": {}, "crt": {}}}


def row(run: str, stage: int, method: str, seed: int, top1: float, **others: Any) -> Row:
    known = {"run": run, "stage": stage, "method": method, "seed": seed, "top1": top1, "changed_settings": {}}
    return dict.fromkeys(FIELDS) | {"epochs": 240} | known | others


def gain(mean: float, low: float, high: float) -> Row:
    return {"gain_top1": mean, "gain_top1_low": low, "gain_top1_high": high}


ONE_MODEL = [
    row("a", 1, "softmax", 0, 42.0, paper_top1=42.4),
    row("a", 2, "gumbel_paper", 0, 44.0, paper_top1=45.5, **gain(2.5, 1.9, 3.1)),
    row("a", 2, "gumbel_paper", 1, 45.0, paper_top1=45.5, **gain(2.5, 1.9, 3.1)),
    *(row("a", 2, "balanced_softmax", seed, 47.0, **gain(5.0, 4.0, 6.0)) for seed in (0, 1)),
]
TWO_MODELS = [
    *ONE_MODEL,
    row("b", 1, "softmax", 1, 43.0, paper_top1=42.4),
    row("b", 2, "gumbel_paper", 0, 46.0, paper_top1=45.5, **gain(3.5, 3.0, 4.0)),
    row("b", 2, "gumbel_paper", 1, 47.0, paper_top1=45.5, **gain(3.5, 3.0, 4.0)),
]


def cells(table: TextTable) -> dict[str, dict[str, str]]:
    return {line[0]: dict(zip(table.columns, line, strict=True)) for line in table.cells}


def test_one_model_has_the_bootstraps_intervals() -> None:
    first = tables_of(Results(IF100, ONE_MODEL, RECORD))[0]
    found = cells(first)
    assert list(found) == ["softmax (stage one)", "gumbel, paper's setting", "balanced_softmax"]
    paper = found["gumbel, paper's setting"]
    assert paper["top-1"] == f"44.5±{math.sqrt(0.5):.1f}"
    assert (paper["GOL"], paper["ours - GOL"]) == ("45.5", "-1.0")
    assert (paper["gain"], paper["GOL's gain"]) == ("+2.5 [1.9, 3.1]", "+3.1")
    assert found["softmax (stage one)"]["ours - GOL"] == "-0.4"
    assert found["softmax (stage one)"]["Bal. Act."] == "45.3"
    assert found["balanced_softmax"]["Bal. Act."] == "50.3"
    assert found["balanced_softmax"]["GOL"] == "–"
    assert "another model would move all of it" in first.notes[1]


def test_several_models_have_intervals_over_them() -> None:
    found = cells(tables_of(Results(IF100, TWO_MODELS, RECORD))[0])
    paper, stage_one = found["gumbel, paper's setting"], found["softmax (stage one)"]
    assert paper["top-1"] == f"45.5±{statistics.stdev([44.5, 46.5]):.1f}"
    # Student's t of one degree of freedom: 12.706 standard errors.
    half = 12.7062 * statistics.stdev([2.5, 3.5]) / math.sqrt(2)
    assert paper["gain"] == f"+3.0 [{3 - half:.1f}, {3 + half:.1f}]"
    assert stage_one["ours - GOL"] == f"+0.1 [{0.1 - half:.1f}, {0.1 + half:.1f}]"
    assert found["balanced_softmax (1 of 2 models)"]["gain"] == "+5.0", "of one model: neither interval would be right"
    assert found["balanced_softmax (1 of 2 models)"]["top-1"] == "47.0"


def test_of_several_models_each_stands_by_itself() -> None:
    second = tables_of(Results(IF100, TWO_MODELS, RECORD))[1]
    assert second.columns == ["method", "seed 0", "gain, seed 0", "seed 1", "gain, seed 1"]
    deviation = f"{math.sqrt(0.5):.1f}"
    wanted = [f"44.5±{deviation}", "+2.5 [1.9, 3.1]", f"46.5±{deviation}", "+3.5 [3.0, 4.0]"]
    assert second.cells[:2] == [
        ["softmax (stage one)", "42.0", "–", "43.0", "–"],
        ["gumbel, paper's setting", *wanted],
    ]
    assert second.cells[2][3:] == ["–", "–"], "balanced_softmax is of one model"
    assert not [one for one in tables_of(Results(IF100, ONE_MODEL, RECORD)) if "each model" in one.title]


def test_missing_seeds_are_told_and_what_is_not_trained_has_one() -> None:
    rows = [one for one in TWO_MODELS if (one["run"], one["method"], one["seed"]) != ("b", "gumbel_paper", 1)]
    found = cells(tables_of(Results(IF100, [*rows, row("a", 2, "tau_norm", 0, 45.0)], RECORD))[0])
    assert [name for name in found if "(" in name] == [
        "softmax (stage one)",
        "gumbel, paper's setting (1 of 2 seeds)",
        "tau_norm (1 of 2 models)",
        "balanced_softmax (1 of 2 models)",
    ]


@pytest.mark.parametrize("values", [[1.0, 2.5], [0.3, -0.2, 0.9, 0.1], [5.0, 5.1, 4.9]])
def test_the_interval_of_a_mean_is_students(values: list[float]) -> None:
    found = noise.of_mean(values)
    known = stats.ttest_1samp(values, 0.0)
    assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval(0.95)))
    assert found.p_value == pytest.approx(known.pvalue)


def test_the_interval_of_equal_values_is_their_mean() -> None:
    assert noise.of_mean([2.0, 2.0]) == noise.Interval(2.0, 2.0, 0.0, noise.SEEDS)


def test_other_data_have_nothing_of_the_papers_beside_them() -> None:
    rows = [one | {"paper_top1": None} for one in ONE_MODEL]
    first = tables_of(Results(IF100, rows, RECORD))[0]
    assert "Bal. Act." not in first.columns
    assert {line["GOL"] for line in cells(first).values()} == {"–"}
    assert "its figures say nothing of these" in first.notes[-1]


def test_fewer_epochs_than_the_papers_are_told() -> None:
    rows = [one | {"epochs": 40} for one in ONE_MODEL]
    note = tables_of(Results(IF100, rows, RECORD))[0].notes[0]
    assert note.startswith("stage one: 1 model, 40 epochs, where the paper's")


def made(seconds: float, **told: Any) -> Record:
    environment = {"device_name": "a machine", "threads": 2, "versions": {"torch": "2.15.0"}, "checkout": None}
    return {"command": [], "environment": environment | told, "seconds": seconds}


def test_what_was_run_and_how_it_differs_from_the_config() -> None:
    one = {
        "run": "a",
        "differs": ["stage1.precision: auto -> bfloat16"],
        "stage1": made(3723.4) | {"images": {"train": 10847}, "config": {"stage1": {"epochs": 240}}},
        "stage2": [
            made(61.0, threads=1, checkout={"commit": "0123456789abcdef", "dirty": True}) | {"classifiers": 1095}
        ],
    }
    *_, what = found = tables_of(Results(IF100, ONE_MODEL, {"runs": [one], "gains_over": {}}))
    trained = "…, a machine, 2 threads", "…, 2.15.0", "…, installed"
    assert what.cells == [
        ["a", "stage one", "240 epochs, 10,847 images", "1:02:03", *trained],
        ["a", "stage two", "1,095 classifiers", "0:01:01", "a machine, 1 thread", "2.15.0", "0123456789 (edited)"],
    ]
    assert what.notes[-1] == "…: on what earlier sessions of the training ran was not recorded"
    assert found[0].notes[1] == "other than in the config of cifar100_lt: stage1.precision: auto -> bfloat16"


GPU = {"device": "cuda", "device_name": "a GPU", "versions": {"torch": "2.15.0"}, "checkout": None}


def trained_in(epochs: int, *sessions: Record) -> Record:
    told = {"environment": GPU, "seconds": 0, "images": {"train": 111}, "config": {"stage1": {"epochs": epochs}}}
    return told | {"sessions": list(sessions)}


def test_a_gpu_has_no_threads_and_a_loaded_model_no_epochs() -> None:
    one = made_stage1("a", trained_in(0))
    assert (one.machine, one.what, one.commit) == ("a GPU", "loaded, 111 images", "installed")


def test_every_session_of_a_training_is_told_each_machine_and_commit_once() -> None:
    checkouts = [{"commit": digit * 40, "dirty": False} for digit in "112"]
    environments = [made(0, checkout=checkout)["environment"] for checkout in checkouts]
    places = (0, 0), (0, 7), (3, 0)
    sessions = [
        {"epochs_done": epochs, "steps_done": steps, "environment": one}
        for (epochs, steps), one in zip(places, environments, strict=True)
    ]
    one = made_stage1("a", trained_in(4, *sessions))
    assert (one.machine, one.torch, one.commit) == ("a machine, 2 threads", "2.15.0", "1111111111, 2222222222")
    later = made_stage1("a", trained_in(4, *sessions[1:]))
    assert (later.machine, later.commit) == ("…, a machine, 2 threads", "…, 1111111111, 2222222222")


def test_where_the_gain_comes_from() -> None:
    groups = {"num_many": 35, "num_medium": 35, "num_few": 30, "top1_many": 60.0, "top1_medium": 40.0, "top1_few": 9.0}
    of_groups = {f"gain_top1_few{part}": value for part, value in (("", 4.0), ("_low", 3.0), ("_high", 5.0))}
    rows = [one | groups | {"ece": 12.0} | (of_groups if one["stage"] == 2 else {}) for one in TWO_MODELS]
    paper = cells(tables_of(Results(IF100, rows, RECORD))[2])["gumbel, paper's setting"]
    assert (paper["many (35)"], paper["few (30)"], paper["ECE"]) == ("60.0±0.0", "9.0±0.0", "12.0±0.0")
    assert (paper["gain, few"], paper["gain, many"]) == ("+4.0 [4.0, 4.0]", "–")


def test_gains_over_retrained_classifiers() -> None:
    over = {"softmax": {"a": {"gumbel_paper": [1.0, 0.5, 1.5]}, "b": {"gumbel_paper": [2.0, 1.5, 2.5]}}, "crt": {}}
    found = cells(tables_of(Results(IF100, TWO_MODELS, {"runs": [], "gains_over": over}))[3])
    half = 12.7062 * 0.5
    assert found["gumbel, paper's setting"]["over softmax re-trained"] == f"+1.5 [{1.5 - half:.1f}, {1.5 + half:.1f}]"
    assert found["gumbel, paper's setting"]["over crt"] == "–"
    over = {"softmax": {"a": {"gumbel_paper": [1.0, 0.5, 1.5]}}}
    found = cells(tables_of(Results(IF100, TWO_MODELS, {"runs": [], "gains_over": over}))[3])
    assert found["gumbel, paper's setting"]["over softmax re-trained"] == "+1.0 (1 of 2 models)"


def test_models_that_were_retrained_by_other_defaults_have_lines_of_their_own() -> None:
    rows = [one | {"lr": 0.1 if one["run"] == "a" else 0.3} for one in TWO_MODELS]
    over = {"softmax": {"a": {"gumbel_paper": [1.0, 0.5, 1.5]}, "b": {"gumbel_paper": [3.0, 2.5, 3.5]}}}
    first, _, _, fourth, *_ = tables_of(Results(IF100, rows, {"runs": [], "gains_over": over}))
    name = "gumbel, paper's setting (1 of 2 models)"
    assert [line[1] for line in first.cells if line[0] == name] == ["44.5", "46.5"]
    assert [line[1] for line in fourth.cells if line[0] == name] == ["+1.0", "+3.0"]


def test_several_columns_stand_beside_the_paper_at_a_glance() -> None:
    other = [one | {"paper_top1": None} for one in ONE_MODEL]
    every = [Results(IF50, other, RECORD), Results(IF100, ONE_MODEL, RECORD), Results(IF200, TWO_MODELS, RECORD)]
    first, *rest = tables(every)
    assert [table.title for table in rest] == [table.title for one in every for table in tables_of(one)]
    assert [line[:2] for line in first.cells] == [
        ["if100", "softmax (stage one)"],
        ["if100", "gumbel, paper's setting"],
        ["if200", "softmax (stage one)"],
        ["if200", "gumbel, paper's setting"],
    ]
    for one in every[1:]:
        own = [line for line in tables_of(one)[0].cells if line[2] != "–"]
        assert [line[1:] for line in first.cells if line[0] == one.column.name] == [line[:6] for line in own]
    assert tables(every[1:2])[0].title == tables_of(every[1])[0].title
    assert len(tables([every[0], every[0]])) == 2 * len(tables_of(every[0]))


def test_columns_stand_in_the_papers_order() -> None:
    assert columns_of("table4", "cifar100_lt") == [IF50, IF100, IF200]
    assert columns_of("table4", "cifar100_lt", ["if200", "if50"]) == [IF50, IF200]
    for column in (column for columns in TABLE_4.values() for column in columns):
        assert set(column.balanced_activation) <= {"stage_one", *METHODS}


@pytest.mark.parametrize(
    ("dataset", "lr", "epochs"), [("cifar100_lt", 1e-4, 15), ("imagenet_lt", 1e-5, 10), ("places_lt", 1e-5, 10)]
)
def test_the_papers_setting_of_stage_two_and_its_length_of_stage_one(dataset: str, lr: float, epochs: int) -> None:
    """GOL, section 6.5."""
    for column in columns_of("table4", dataset):
        config = load_config(column.config, column.changes)
        assert config.stage1.epochs == column.epochs
        method = methods.configured("gumbel_paper", method_settings(config))
        assert (method.lr, method.epochs, method.sampler) == (lr, epochs, "random")
