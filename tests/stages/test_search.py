"""The search of tuning: what is tried when, within a time, by a clock that only training moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from gol_decouple import methods
from gol_decouple.errors import InputError
from gol_decouple.methods import Method
from gol_decouple.progress import Progress
from gol_decouple.stages import search
from gol_decouple.stages.choosing import Candidates
from gol_decouple.stages.jobs import Job
from gol_decouple.stages.search import Search

ROWS = 1000
SPEED = 10_000.0  # rows a second
TRAINED = ("gumbel", "sigmoid", "softmax", "crt")
# What fits exactly does not depend on how a sum is rounded.
A_LITTLE = 1 + 1e-9


def rows_of(point: Method, seeds: int = 1) -> float:
    """Rows that go through a classifier: those of every epoch, and a quarter of that for evaluation."""
    return (point.epochs + 0.25) * ROWS * (seeds if point.is_trained else 1)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Stub(Candidates):
    """Candidates that are trained in no time but the clock's; `rounds` has what each call was to train.

    Args:
        values: of a point; None: it fails.
        speed: rows a second in the nth round.
    """

    def __init__(
        self,
        clock: Clock,
        values: Callable[[Method], float | None] = lambda point: 50.0,
        there: Collection[Method] = (),
        speed: Callable[[int], float] = lambda place: SPEED,
    ) -> None:
        self._clock, self._values, self._speed = clock, values, speed
        self.done = list(there)
        self.holdout = "val"
        self.rounds: list[list[Method]] = []
        self.starts: list[float] = []
        self.saved = SimpleNamespace(is_left=lambda job: job.method not in self.done, train_first=lambda jobs: [])

    num_samples = ROWS

    def jobs(self, point: Method, seeds: Sequence[int]) -> list[Job]:
        return [Job(point, seed) for seed in (seeds if point.is_trained else seeds[:1])]

    def run(self, points: Sequence[Method], seeds: Sequence[int], overwrite: bool = False) -> list[InputError]:
        self.starts.append(self._clock.now)
        self._clock.now += sum(rows_of(point, len(seeds)) for point in points) / self._speed(len(self.rounds))
        self.rounds.append(list(points))
        self.done += [point for point in points if self._values(point) is not None]
        return [InputError(f"{point.name} diverged") for point in points if self._values(point) is None]

    def value(self, point: Method, seeds: Sequence[int]) -> float | None:
        return self._values(point) if point in self.done else None

    @property
    def order(self) -> list[Method]:
        return [point for points in self.rounds for point in points]


class Said(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.lines.append(f"warning: {message}")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(search.time, "monotonic", made)
    return made


def settings(name: str, epochs: int = 1, count: int = 3) -> list[Method]:
    """So many settings of a method, told apart by their learning rates 0.1, 0.2, ..."""
    if name not in TRAINED:
        return methods.search(methods.get(name))[:count]
    return [methods.get(name).with_settings(epochs=epochs, lr=(1 + place) / 10) for place in range(count)]


def sets_of(epochs: Mapping[str, int], count: int = 3) -> list[list[Method]]:
    return [settings(name, many, count) for name, many in epochs.items()]


ALIKE = dict.fromkeys(TRAINED, 1)


def names(points: Sequence[Method]) -> list[str]:
    return [point.name for point in points]


def searched(
    stub: Stub, sets: Sequence[Sequence[Method]], seconds: float, seeds: Sequence[int] = (0,), said: Said | None = None
) -> Search:
    found = Search(stub, sets, seeds, said or Said())
    found.run(stub._clock.now + seconds)
    return found


# Everything is tried


def test_with_time_enough_every_setting_of_every_method_is_tried_once(clock: Clock) -> None:
    sets = [*sets_of(ALIKE), settings("ncm"), settings("iif", count=7)]
    stub = Stub(clock)
    found = searched(stub, sets, 1e6)
    assert Counter(map(repr, stub.order)) == Counter(repr(point) for points in sets for point in points)
    assert found.tried == {points[0].name: points for points in sets}
    assert not any(found.left.values())
    assert found.untried == []
    assert all(len(found.choices[points[0].name].tried) == len(points) for points in sets)


def test_the_settings_of_a_method_are_tried_in_their_order(clock: Clock) -> None:
    stub = Stub(clock, values=lambda point: -point.lr)
    searched(stub, sets_of({"gumbel": 3, "crt": 1}, count=9), 1e6)
    for name, epochs in {"gumbel": 3, "crt": 1}.items():
        assert [point for point in stub.order if point.name == name] == settings(name, epochs, 9)


def test_a_round_has_one_setting_of_a_method_at_most(clock: Clock) -> None:
    stub = Stub(clock)
    searched(stub, sets_of(ALIKE, count=5), 1e6)
    assert all(len(set(names(points))) == len(points) for points in stub.rounds)
    assert max(map(len, stub.rounds)) == len(ALIKE)


def test_the_choice_is_the_best_setting_of_the_method(clock: Clock) -> None:
    best = {name: settings(name)[place] for place, name in enumerate(TRAINED[:3])}
    stub = Stub(clock, values=lambda point: 90.0 if point in best.values() else 50.0)
    found = searched(stub, sets_of(dict.fromkeys(best, 1)), 1e6)
    assert {name: choice.method for name, choice in found.choices.items()} == best
    assert {choice.value for choice in found.choices.values()} == {90.0}
    assert {choice.held_out for choice in found.choices.values()} == {"val"}


# The first round


def test_the_first_round_is_a_trial_of_the_cheapest(clock: Clock) -> None:
    stub = Stub(clock)
    searched(stub, sets_of({"gumbel": 9, "crt": 2, "sigmoid": 5}), 1e6)
    assert names(stub.rounds[0]) == ["crt"]
    assert len(stub.rounds[1]) == 3


def test_what_is_not_trained_is_cheaper_than_any_training(clock: Clock) -> None:
    stub = Stub(clock)
    searched(stub, [*sets_of(ALIKE), settings("iif")], 1e6, seeds=range(3))
    assert names(stub.rounds[0]) == ["iif"]


def test_of_what_costs_the_same_the_first_is_the_trial(clock: Clock) -> None:
    stub = Stub(clock)
    searched(stub, sets_of(ALIKE), 1e6)
    assert names(stub.rounds[0]) == ["gumbel"]


# The time


@pytest.mark.parametrize("seconds", [0.0, -1.0, -1e9])
def test_no_time_trains_nothing(clock: Clock, seconds: float) -> None:
    stub = Stub(clock)
    found = searched(stub, sets_of(ALIKE), seconds)
    assert stub.rounds == []
    assert found.choices == {}
    assert found.untried == list(TRAINED)
    assert found.left == {name: settings(name) for name in TRAINED}
    assert found.tried == {name: [] for name in TRAINED}


def test_a_trial_that_takes_all_the_time_is_the_only_round(clock: Clock) -> None:
    stub = Stub(clock)
    found = searched(stub, sets_of(ALIKE), rows_of(settings("gumbel")[0]) / SPEED)
    assert stub.rounds == [settings("gumbel")[:1]]
    assert found.untried == ["sigmoid", "softmax", "crt"]


def test_what_fits_exactly_is_tried(clock: Clock) -> None:
    seconds = sum(rows_of(point) for points in sets_of(ALIKE) for point in points) / SPEED
    stub = Stub(clock)
    assert not any(searched(stub, sets_of(ALIKE), seconds * A_LITTLE).left.values())
    stub = Stub(clock)
    left = searched(stub, sets_of(ALIKE), seconds / 1.0001).left
    assert [len(points) for points in left.values()].count(1) == 1
    assert sum(map(len, left.values())) == 1


@pytest.mark.parametrize("seed", range(20))
def test_nothing_begins_that_by_the_speed_so_far_does_not_fit(clock: Clock, seed: int) -> None:
    """And nothing that fits is left, with any costs, values, budgets, and speeds that change as it goes."""
    stream = np.random.default_rng(seed)
    epochs = dict(zip(TRAINED, map(int, stream.integers(1, 60, len(TRAINED))), strict=True))
    sets = [*sets_of(epochs, count=5), settings("iif", count=7)]
    values = {repr(point): float(stream.uniform(20, 90)) for points in sets for point in points}
    speeds = SPEED * stream.uniform(0.4, 2.5, 100)
    seeds = range(int(stream.integers(1, 4)))
    stub = Stub(clock, lambda point: values[repr(point)], speed=lambda place: float(speeds[place]))
    seconds = float(stream.uniform(0.02, 1.2)) * sum(rows_of(point, len(seeds)) for some in sets for point in some)
    seconds /= SPEED
    deadline = clock.now + seconds
    found = searched(stub, sets, seconds, seeds)
    assert len(stub.rounds[0]) == 1
    rows, began = 0.0, stub.starts[0]
    for points, start in zip(stub.rounds, stub.starts, strict=True):
        costs = [rows_of(point, len(seeds)) for point in points]
        if rows:
            room = rows / (start - began) * (deadline - start)
            assert sum(costs) <= room * A_LITTLE
            assert len(points) == 1 or sum(costs) <= room / 2 * A_LITTLE, "half of what is left, then ranked anew"
        rows += sum(costs)
    waiting = [rows_of(points[0], len(seeds)) for points in found.left.values() if points]
    assert all(cost > rows / (clock.now - began) * (deadline - clock.now) / A_LITTLE for cost in waiting)
    assert {point.name for point in stub.order} == found.choices.keys()


def test_a_speed_that_falls_ends_the_search_earlier(clock: Clock) -> None:
    seconds = 40 * rows_of(settings("gumbel")[0]) / SPEED
    steady = Stub(clock)
    searched(steady, sets_of(ALIKE, count=9), seconds)
    assert len(steady.order) == 4 * 9
    slowed = Stub(clock, speed=lambda place: SPEED if place < 2 else SPEED / 10)
    searched(slowed, sets_of(ALIKE, count=9), seconds)
    assert 5 < len(slowed.order) < 15


@pytest.mark.parametrize("count", [2, 5])
def test_so_many_seeds_cost_so_many_times_more(clock: Clock, count: int) -> None:
    one, several = Stub(clock), Stub(clock)
    searched(one, sets_of(ALIKE), 8 * A_LITTLE * rows_of(settings("gumbel")[0]) / SPEED)
    searched(several, sets_of(ALIKE), 8 * A_LITTLE * rows_of(settings("gumbel")[0]) / SPEED, range(count))
    assert len(one.order) == 8
    assert len(several.order) == 8 // count
    longer = Stub(clock)
    searched(longer, sets_of(ALIKE), count * 8 * A_LITTLE * rows_of(settings("gumbel")[0]) / SPEED, range(count))
    assert longer.rounds == one.rounds


def test_seeds_of_what_is_not_trained_cost_nothing_more(clock: Clock) -> None:
    sets = [settings("iif", count=7), settings("tau_norm", count=7)]
    seconds = A_LITTLE * 14 * 0.25 * ROWS / SPEED
    stub = Stub(clock)
    searched(stub, sets, seconds, range(9))
    assert len(stub.order) == 14
    stub = Stub(clock)
    searched(stub, sets, 5.5 / 14 * seconds, range(9))
    assert len(stub.order) == 5


# The order of methods


@pytest.mark.parametrize("budget", [5.0, 8.0, 12.0, 1e6])
@pytest.mark.parametrize("count", [1, 3])
def test_every_method_is_tried_before_any_has_its_second_setting(clock: Clock, budget: float, count: int) -> None:
    stub = Stub(clock, values=lambda point: 100.0 * point.lr)
    searched(stub, sets_of(ALIKE), budget * count * rows_of(settings("gumbel")[0]) / SPEED, range(count))
    assert sorted(names(stub.order[: len(ALIKE)])) == sorted(ALIKE)


def test_then_the_best_methods_come_first(clock: Clock) -> None:
    """One setting fits in each of the last rounds."""
    values = {"gumbel": 40.0, "sigmoid": 70.0, "softmax": 50.0, "crt": 60.0}
    stub = Stub(clock, values=lambda point: values[point.name])
    cost = rows_of(settings("gumbel")[0])
    searched(stub, sets_of(ALIKE), A_LITTLE * 7 * cost / SPEED)
    assert sorted(names(stub.order[:4])) == sorted(ALIKE)
    assert names(stub.order[4:]) == ["sigmoid", "sigmoid", "crt"]


def test_methods_are_ranked_anew_after_every_round(clock: Clock) -> None:
    """What is the best after its first setting is overtaken by the second setting of another."""
    values = {("gumbel", 0.1): 60.0, ("crt", 0.1): 55.0, ("crt", 0.2): 65.0}
    stub = Stub(clock, values=lambda point: values.get((point.name, point.lr), 50.0))
    seconds = 9.5 * rows_of(settings("gumbel")[0]) / SPEED
    searched(stub, sets_of({"gumbel": 1, "crt": 1}, count=9), seconds)
    assert list(map(names, stub.rounds)) == [
        ["gumbel"],
        ["crt", "gumbel"],
        ["gumbel", "crt"],
        ["crt", "gumbel"],
        *(["crt"], ["crt"]),
    ]


# What is there


def test_what_is_there_takes_no_time_and_counts(clock: Clock) -> None:
    there = [*settings("gumbel"), settings("crt")[0]]
    stub = Stub(clock, values=lambda point: 100.0 * point.lr, there=there)
    found = searched(stub, sets_of(ALIKE), 0.0)
    assert stub.rounds == []
    assert {name: choice.method for name, choice in found.choices.items()} == {"gumbel": there[2], "crt": there[3]}
    assert found.tried == {"gumbel": there[:3], "crt": there[3:], "sigmoid": [], "softmax": []}
    assert {name: len(points) for name, points in found.left.items()} == {
        **{"gumbel": 0, "sigmoid": 3, "softmax": 3, "crt": 2}
    }
    assert found.untried == ["sigmoid", "softmax"]


def test_more_time_goes_on_with_what_is_left(clock: Clock) -> None:
    cost = rows_of(settings("gumbel")[0])
    first = Stub(clock, values=lambda point: 100.0 * point.lr)
    searched(first, sets_of(ALIKE), A_LITTLE * 6 * cost / SPEED)
    assert len(first.order) == 6
    second = Stub(clock, values=lambda point: 100.0 * point.lr, there=first.done)
    found = searched(second, sets_of(ALIKE), 1e6)
    assert len(second.order) == 4 * 3 - 6
    assert not [point for point in second.order if point in first.order]
    assert not any(found.left.values())
    assert {name: set(map(repr, points)) for name, points in found.tried.items()} == {
        name: set(map(repr, settings(name))) for name in TRAINED
    }


def test_a_setting_of_which_a_seed_is_missing_is_not_there(clock: Clock) -> None:
    point = settings("gumbel")[0]
    stub = Stub(clock, there=[point])
    stub.saved.is_left = lambda job: job.method != point or job.seed == 2
    assert searched(stub, [[point]], 0.0, range(2)).tried == {"gumbel": [point]}
    assert searched(stub, [[point]], 0.0, range(3)).tried == {"gumbel": []}


def test_where_all_is_there_nothing_is_trained(clock: Clock) -> None:
    stub = Stub(clock, there=[point for points in sets_of(ALIKE) for point in points])
    found = searched(stub, sets_of(ALIKE), 1e6)
    assert stub.rounds == []
    assert found.untried == []


# What fails


def test_a_method_whose_settings_all_fail_is_no_choice_and_told(clock: Clock) -> None:
    stub, said = Stub(clock, values=lambda point: None if point.name == "gumbel" else 50.0), Said()
    found = searched(stub, sets_of(ALIKE), 1e6, said=said)
    assert "gumbel" not in found.choices
    assert found.untried == ["gumbel"]
    assert found.left["gumbel"] == []
    assert said.lines == ["warning: left out: gumbel diverged"] * 3
    assert len(stub.order) == 4 * 3, "the others are tried all the same"


def test_a_setting_that_fails_is_left_out_of_the_choice(clock: Clock) -> None:
    stub, said = Stub(clock, values=lambda point: None if point.lr == 0.2 else 100 * point.lr), Said()
    found = searched(stub, sets_of({"gumbel": 1}), 1e6, said=said)
    assert found.untried == []
    assert found.choices["gumbel"].method.lr == 0.3
    assert [value for _, value in found.choices["gumbel"].tried] == [pytest.approx(10), None, pytest.approx(30)]
    assert said.lines == ["warning: left out: gumbel diverged"]


def test_a_method_whose_first_setting_fails_has_another_chance(clock: Clock) -> None:
    stub = Stub(clock, values=lambda point: None if (point.name, point.lr) == ("crt", 0.1) else 100 * point.lr)
    found = searched(stub, sets_of(ALIKE), A_LITTLE * 5 * rows_of(settings("crt")[0]) / SPEED)
    assert found.choices["crt"].method.lr == 0.2
    assert names(stub.order).count("crt") == 2


def test_where_everything_fails_there_is_no_choice(clock: Clock) -> None:
    found = searched(Stub(clock, values=lambda point: None), sets_of(ALIKE), 1e6)
    assert found.choices == {}
    assert found.untried == list(TRAINED)
