"""Which settings of a method tuning tries, and in which order."""

from __future__ import annotations

from operator import attrgetter
from typing import get_args

import numpy as np
import pytest

from gol_decouple.features import Classes
from gol_decouple.methods import METHODS, Method, changed_settings, get, search
from gol_decouple.settings import Stage2Config
from gol_decouple.stages.jobs import check

NAME = attrgetter("name")
CLASSES = Classes(["a", "b", "c"], np.array([500, 50, 5]))
TAUS = {
    "tau_norm": [1.0, 0.5, 0.7, 0.3, 1.5, 0.1, 2.0, 0.0],
    "logit_adjustment": [1.0, 0.5, 1.5, 0.75, 1.25, 0.25, 2.0],
    "logit_adjusted": [1.0, 0.5, 1.5],
}
# Whose values, beside learning rates, are listed.
OTHER = {"tau_norm": "tau", "logit_adjustment": "tau", "logit_adjusted": "tau", "iif": "variant", "ncm": "space"}


def values(points: list[Method], name: str) -> list[object]:
    """The values of a setting, each once, in the order in which they come."""
    return list(dict.fromkeys(point.settings[name] for point in points))


def choices(name: str) -> set[str]:
    """What a setting may be, by the section [stage2]."""
    literal, _ = get_args(Stage2Config.model_fields[name].annotation)
    return set(get_args(literal))


@pytest.mark.parametrize("method", METHODS.values(), ids=NAME)
def test_the_method_itself_comes_first_and_nothing_twice(method: Method) -> None:
    points = search(method)
    assert points[0] == method
    assert all(point not in points[:place] for place, point in enumerate(points))
    assert len({repr(sorted(point.settings.items(), key=str)) for point in points}) == len(points)
    assert {point.name for point in points} == {method.name}


@pytest.mark.parametrize("method", METHODS.values(), ids=NAME)
def test_only_what_is_searched_changes(method: Method) -> None:
    searched = {OTHER.get(method.name), "lr" if method.is_trained else None} - {None}
    assert {name for point in search(method) for name in changed_settings(point)} == searched
    assert all(changed_settings(point) for point in search(method)[1:])


@pytest.mark.parametrize("method", [one for one in METHODS.values() if one.is_trained], ids=NAME)
def test_learning_rates_are_the_methods_own_times_round_factors(method: Method) -> None:
    rates = values(search(method), "lr")
    assert [rate / method.lr for rate in rates] == pytest.approx([1, 3, 1 / 3, 10, 1 / 10], rel=0.02)
    assert [float(f"{rate:.1e}") for rate in rates] == rates, "two digits"


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("gumbel", [1e-5, 3e-5, 3.3e-6, 1e-4, 1e-6]),
        ("sigmoid", [3e-4, 9e-4, 1e-4, 3e-3, 3e-5]),
        ("crt", [0.1, 0.3, 0.033, 1.0, 0.01]),
        ("lws", [0.2, 0.6, 0.067, 2.0, 0.02]),
    ],
)
def test_learning_rates_to_the_digit(name: str, rates: list[float]) -> None:
    assert [point.lr for point in search(get(name))] == rates


def test_what_is_not_trained_has_no_learning_rate() -> None:
    closed = [method for method in METHODS.values() if not method.is_trained]
    assert {"ncm", "tau_norm", "logit_adjustment", "iif", "norcal"} == {method.name for method in closed}
    assert {point.lr for method in closed for point in search(method)} == {0.0}
    assert search(get("norcal")) == [get("norcal")]


@pytest.mark.parametrize("name", TAUS)
def test_taus(name: str) -> None:
    assert values(search(get(name)), "tau") == TAUS[name]


def test_the_taus_of_tau_norm_are_of_the_authors_grid() -> None:
    grid = {round(0.1 * step, 1) for step in range(21)}
    assert set(values(search(get("tau_norm")), "tau")) < grid
    assert {0.0, 1.0, 2.0} < set(values(search(get("tau_norm")), "tau"))


@pytest.mark.parametrize(("name", "setting"), [("iif", "variant"), ("ncm", "space")])
def test_every_variant_and_every_space_is_tried(name: str, setting: str) -> None:
    points = search(get(name))
    assert {point.settings[setting] for point in points} == choices(setting)
    assert len(points) == len(choices(setting))


@pytest.mark.parametrize("method", [one for one in METHODS.values() if not one.background], ids=NAME)
def test_every_point_can_be_made(method: Method) -> None:
    for point in search(method):
        check(point, CLASSES)


# The order


def test_two_settings_are_tried_by_how_far_both_are_from_the_first() -> None:
    """Places in the two lists, added up, never fall; of equals none is left out."""
    points = search(get("logit_adjusted"))
    rates, taus = [0.1, 0.3, 0.033, 1.0, 0.01], TAUS["logit_adjusted"]
    places = [(rates.index(point.lr), taus.index(point.settings["tau"])) for point in points]
    assert sorted(places) == [(i, j) for i in range(5) for j in range(3)]
    distances = [i + j for i, j in places]
    assert distances == sorted(distances)
    assert set(places[:3]) == {(0, 0), (0, 1), (1, 0)}


# Settled


@pytest.mark.parametrize("method", METHODS.values(), ids=NAME)
def test_where_all_is_settled_there_is_the_method_alone(method: Method) -> None:
    assert search(method, settled=set(method.settings)) == [method]


@pytest.mark.parametrize("method", [one for one in METHODS.values() if one.is_trained], ids=NAME)
def test_a_settled_learning_rate_is_kept(method: Method) -> None:
    changed = method.with_settings(lr=0.123)
    points = search(changed, settled=["lr"])
    assert points[0] == changed
    assert {point.lr for point in points} == {0.123}
    assert len(points) == (3 if method.name == "logit_adjusted" else 1)


def test_of_two_settings_one_may_be_settled() -> None:
    method = get("logit_adjusted").with_settings(tau=0.8)
    points = search(method, settled=["tau", "epochs"])
    assert {point.settings["tau"] for point in points} == {0.8}
    assert [point.lr for point in points] == [0.1, 0.3, 0.033, 1.0, 0.01]


def test_settings_of_others_settle_nothing() -> None:
    assert search(get("gumbel"), settled=["tau", "space", "epochs"]) == search(get("gumbel"))


def test_a_method_with_a_value_of_its_own_comes_first_as_it_is() -> None:
    points = search(get("tau_norm").with_settings(tau=0.8))
    assert values(points, "tau") == [0.8, *TAUS["tau_norm"]]


def test_what_is_not_searched_stays_changed() -> None:
    points = search(get("gumbel").with_settings(epochs=3, q_min=-5.0))
    assert {(point.epochs, point.activation_params["q_min"]) for point in points} == {(3, -5.0)}
    assert len(points) == 5
