"""Named methods: choosing them by pattern, listing them, and what a line of the table promises."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import gol_decouple
from gol_decouple import activations, losses, methods, samplers
from gol_decouple.errors import InputError
from tests.conftest import RunCli

FOR_BACKGROUND = {"gol", "droploss", "federated", "norcal"}


@pytest.mark.parametrize("name", list(methods.METHODS))
def test_a_method_is_made_of_parts_that_exist_and_go_together(name: str) -> None:
    method = methods.get(name)
    assert method.name == name
    assert (method.activation, method.loss) in losses.pairs()
    activations.get(method.activation, **method.activation_params)
    losses.get(method.loss, activation=method.activation, class_counts=[5, 200, 30], **method.loss_params)
    assert method.sampler in samplers.names()
    assert method.paper
    assert method.with_settings(**method.settings) == method


def test_patterns_find_methods_in_their_order_and_once() -> None:
    assert methods.select(["balanced_*", "crt", "*_softmax"]) == [
        "balanced_softmax",
        "balanced_sigmoid",
        "balanced_gumbel",
        "crt",
    ]
    assert methods.select(["?rt", "c[r]t"]) == ["crt"]


def test_all_is_every_method_but_those_for_background() -> None:
    assert set(methods.METHODS) - set(methods.select(["all"])) == FOR_BACKGROUND
    assert methods.select(["*"]) == methods.select(["all"])
    assert methods.select(["all"], background=None) == list(methods.METHODS)


def test_all_for_features_with_background_leaves_out_what_takes_one_label_for_granted() -> None:
    found = methods.select(["all"], background=True)
    assert set(found) >= FOR_BACKGROUND | {"softmax", "sigmoid", "gumbel", "crt", "lws", "seesaw", "bags"}
    assert not set(found) & {"balanced_softmax", "ncm", "tau_norm", "ldam_drw", "mislas_stage2"}
    assert methods.select(["*"], background=True) == found == methods.fits(background=True)
    with pytest.raises(
        InputError, match=r"'nc\*' matches only methods that make no sense with background samples: ncm"
    ):
        methods.select(["nc*"], background=True)
    assert methods.select(["ncm"], background=True) == ["ncm"]


def test_methods_for_background_are_found_by_their_name_and_by_no_pattern() -> None:
    assert methods.select(["gol"]) == ["gol"]
    with pytest.raises(InputError, match=r"'drop\*' matches only methods that need background samples: droploss"):
        methods.select(["drop*"])
    assert methods.select(["drop*"], background=True) == methods.select(["drop*"], background=None) == ["droploss"]


def test_a_pattern_that_finds_nothing_names_what_there_is() -> None:
    with pytest.raises(InputError, match="unknown method 'balancd_softmax'") as error:
        methods.select(["crt", "balancd_softmax"])
    assert "did you mean 'balanced_softmax'" in (error.value.hint or "")


def test_the_list_has_papers_parts_and_settings(run_cli: RunCli) -> None:
    listed = run_cli("methods")
    assert listed.code == 0
    paragraphs = dict(paragraph.split("\n", 1) for paragraph in listed.out.strip().split("\n\n"))
    assert list(paragraphs) == list(methods.METHODS)
    assert max(len(line) for line in listed.out.splitlines()) <= 80
    told = {name: " ".join(text.split()) for name, text in paragraphs.items()}
    for name, method in methods.METHODS.items():
        assert method.paper in told[name]
        assert f"{method.activation} activation, {method.loss} loss, {method.sampler} sampler" in told[name]
        assert all(f"{setting}=" in told[name] for setting in method.settings)
        assert ("needs background samples" in told[name]) == (name in FOR_BACKGROUND)
    assert "lr=1e-05 epochs=30" in told["gumbel"]


def test_the_list_takes_names_and_patterns(run_cli: RunCli) -> None:
    listed = run_cli("methods", "g[ou]*l", "acsl")
    assert [line for line in listed.out.splitlines() if line and line[0] != " "] == ["gumbel", "gol", "acsl"]
    refused = run_cli("methods", "nothing*")
    assert refused.code == 2
    assert refused.err.startswith("error: unknown method 'nothing*'\nhint: choose from: acsl")


def test_stage_two_takes_patterns(run_cli: RunCli, gaussians: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(gaussians, tmp_path / "some.h5"))
    done = run_cli(
        "stage2", file, "--method", "balanced_*", "--set", "stage2.epochs=1", "--runs-dir", tmp_path / "runs"
    )
    assert done.code == 0
    made = {folder.name.split("-")[0] for folder in (tmp_path / "runs" / "some" / "stage2").iterdir()}
    assert made == {"balanced_softmax", "balanced_sigmoid", "balanced_gumbel"}


@pytest.mark.parametrize("name", sorted(FOR_BACKGROUND))
def test_a_method_for_background_is_refused_without_it(
    run_cli: RunCli, gaussians: Path, tmp_path: Path, name: str
) -> None:
    done = run_cli("stage2", gaussians, "--method", "crt", "--method", name, "--runs-dir", tmp_path / "runs")
    assert done.code == 2
    assert f"error: method {name} is for features with background samples, and there are none" in done.err
    assert "hint: --method all leaves such methods out" in done.err
    assert not (tmp_path / "runs").exists()
    with pytest.raises(InputError, match=f"method {name} is for features with background samples"):
        gol_decouple.retrain(gaussians, name)


def test_the_recipe_on_rois_is_that_of_detectors() -> None:
    recipe = {"batch_size": 8192, "lr": 0.02, "epochs": 12, "schedule": "cosine", "weight_decay": 1e-4}
    for name, start in (("softmax", "stage_one"), ("gumbel", "fresh"), ("sigmoid", "fresh"), ("gol", "fresh")):
        settings = methods.default(name, background=True).settings
        assert {key: settings[key] for key in (*recipe, "start")} == recipe | {"start": start}, name
        assert methods.changed_settings(methods.default(name, background=True), background=True) == {}
    assert "start" not in methods.default("lws", background=True).settings
    assert methods.default("norcal", background=True) == methods.get("norcal")
    assert methods.default("gumbel", background=False) == methods.get("gumbel")
