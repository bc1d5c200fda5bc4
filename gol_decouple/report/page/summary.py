"""What came out, in words: the best method of each study, what it gains, and whether that is more than chance."""

from __future__ import annotations

from dataclasses import dataclass

from gol_decouple.bootstrap import Gain
from gol_decouple.class_stats import GROUPS
from gol_decouple.report.layout import EMPTY
from gol_decouple.report.page.studies import Study
from gol_decouple.report.points import bounds, signed


@dataclass(frozen=True)
class Summary:
    """Of one study.

    Attributes:
        title: its dataset, backbone and split.
        figure, figure_name: the main number, and what it is.
        sentences: what came out.
    """

    title: str
    figure: str
    figure_name: str
    sentences: list[str]


def summary(study: Study) -> Summary:
    """The words, from rows alone."""
    if study.best is None:
        value = study.value(0)
        sentence = "No classifier was retrained yet: gol-decouple stage2 RUN does."
        return Summary(study.title, _number(value), f"{study.metric_name} of {study.names[0]}", [sentence])
    name, value = study.names[study.best], study.value(study.best)
    compared = sum(seeds[0]["stage"] == 2 for seeds in study.settings)
    among = f"the best of {compared} retrained classifiers" if compared > 1 else "the retrained classifier"
    seeds = len(study.settings[study.best])
    mean = f" (mean of {seeds} seeds)" if seeds > 1 else " (one seed)"
    unit = " %" if study.unit == "%" else ""
    sentences = [f"{name} is {among}: {_number(value)}{unit} {study.metric_name}{mean}."]
    sentences += _gains(study, study.best)
    if compared > 1:
        sentences.append("The best of several on the same test data is always a little lucky.")
    return Summary(study.title, _number(value), f"{study.metric_name} of {name}", sentences)


def interval(gain: Gain) -> str:
    """A gain and the bounds of its interval, in points."""
    return f"{signed(gain.mean)} {bounds(gain.low, gain.high)}"


def _gains(study: Study, best: int) -> list[str]:
    baseline, gain = study.baselines[best], study.gain(best)
    if baseline is None:
        return ["There is no baseline in its run to compare it with."]
    if gain is None:
        return [_difference(study, best, baseline)]
    over = study.names[baseline]
    others = [study.gain(place) for place, seeds in enumerate(study.settings) if seeds[0]["stage"] == 2]
    if not any(other is not None and other.is_more_than_chance and other.mean > 0 for other in others):
        sentence = f"No method gains more than chance over {over}: its own gain is {interval(gain)} points."
        return [sentence, *_groups(study, best)]
    if gain.is_more_than_chance:
        verdict = "more than chance" if gain.mean > 0 else "a loss that is more than chance"
    else:
        verdict = "which may be chance"
    return [f"Its gain over {over} is {interval(gain)} points, {verdict}.", *_groups(study, best)]


def _difference(study: Study, best: int, baseline: int) -> str:
    """Of figures without predictions of the same samples."""
    before, after = study.value(baseline), study.value(best)
    if before is None or after is None:
        return f"{study.names[baseline]} has no figure to compare it with."
    because = "AP of objects has none here" if study.is_detection else "predictions of the same samples would give one"
    return (
        f"{study.names[baseline]} has {_number(before)}, a difference of {signed(after - before)} "
        f"points without an interval: {because}."
    )


def _groups(study: Study, best: int) -> list[str]:
    """Groups of classes whose gain or loss is more than chance."""
    found = {group: study.gain(best, f"top1_{group}") for group in GROUPS}
    moved = {name: gain for name, gain in found.items() if gain is not None and gain.is_more_than_chance}
    told = [f"{group} {interval(gain)}" for group, gain in moved.items()]
    return [f"More than chance by group of classes: {', '.join(told)}."] if told else []


def _number(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.1f}"
