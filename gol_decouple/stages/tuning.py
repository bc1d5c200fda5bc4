"""Tuning: methods and their settings tried on what is held out, as long as there is time, and which one to ship."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple import bootstrap, losses, methods, predictions, runs
from gol_decouple.bootstrap import Gain
from gol_decouple.errors import InputError
from gol_decouple.features import verify
from gol_decouple.files import write_json
from gol_decouple.metrics import top1_metrics
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Stage2Config
from gol_decouple.stages.choosing import CRITERION, Candidates, Choice, refuse_rois
from gol_decouple.stages.classifier import make_final, open_work, points_of
from gol_decouple.stages.evaluation import predict
from gol_decouple.stages.results_folder import results_of
from gol_decouple.stages.saved import Work
from gol_decouple.stages.search import Search
from gol_decouple.targets import Target

STAGE_ONE = "stage_one"

Hits = NDArray[np.bool_]


def tune(
    target: Target,
    names: Sequence[str],
    seeds: Sequence[int],
    grid: Sequence[Stage2Config],
    minutes: float,
    device: str = "auto",
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Try methods and settings on what is held out, within a time; then evaluate each method's best on test, once.

    Every method is tried as it is, then with other settings, the best methods first. What was tried before counts and
    takes no time, so the same command with more minutes goes on. Returns what `tuning.json` in the run's folder says.

    Args:
        grid: replaces the methods' own settings; what it names is not searched further.
        minutes: for the search; evaluation on test, and final classifiers that are trained anew, come on top.

    Raises:
        InputError: an unknown method or setting, a features file that cannot be used, nothing that could be trained, or
            a final classifier of the best method that could not.
        EnvironmentFailure: the disk is full, or another process works on the same folder.
    """
    started = time.monotonic()
    refuse_rois(target.features)
    settled = {name for point in grid for name in point.changes}
    sets = [
        list({repr(near): near for point in points for near in methods.search(point, settled)}.values())
        for points in points_of(target, names, grid, progress)
    ]
    work = open_work(target, sets, grid, device, progress)
    verify(work.features, progress)
    candidates = Candidates(work)
    with results_of(work):
        return _tune(work, candidates, Search(candidates, sets, seeds, progress), seeds, minutes, started)


def _tune(
    work: Work, candidates: Candidates, search: Search, seeds: Sequence[int], minutes: float, started: float
) -> dict[str, Any]:
    """What `tune` does, once all is open.

    Args:
        started: when, by `time.monotonic`.
    """
    search.run(started + 60.0 * minutes)
    if not search.choices:
        if any(search.tried.values()):
            raise InputError("all that was tried failed", "lower learning rates: --set stage2.lr=1e-4")
        raise InputError(f"nothing was trained in {minutes:g} minutes", "more --minutes, or fewer methods")
    told = _told(work, candidates, search, seeds)
    told |= {"minutes": minutes, "seconds": time.monotonic() - started}
    path = work.target.folder / runs.TUNING
    write_json(path, told)  # the decision stands before test is read
    made, errors = make_final(work, list(search.choices.values()), seeds, candidates)
    for error in errors:
        work.progress.warn(error.message)
    done = [folder for _, folder in made if runs.is_finished(folder)]
    shipped = [str(folder) for folder in done if runs.read_manifest(folder)["method"] == told["ship"]]
    if told["ship"] != STAGE_ONE and not shipped:
        of_shipped = (error for error in errors if error.message.startswith(f"{told['ship']} ("))
        failed = next(of_shipped, errors[0])
        raise InputError(f"{told['ship']} is best on {told['held_out']}, but failed: {failed.message}", failed.hint)
    told["classifiers"] = shipped or [str(work.target.folder)]
    write_json(path, told)
    return told


def _told(work: Work, candidates: Candidates, search: Search, seeds: Sequence[int]) -> dict[str, Any]:
    """What was tried, how good it is on what is held out, and which method that speaks for."""
    split, positions = candidates.holdout.split, candidates.holdout.positions
    labels, counts = work.features[split].labels, work.features.classes.train_counts
    labels = labels if positions is None else labels[positions]
    ranking = sorted(search.choices.items(), key=lambda item: -item[1].value)
    hits = {name: _hits(candidates, choice, seeds) for name, choice in ranking}
    stage_one = _stage_one_hits(work, candidates)
    best = ranking[0][0]
    over_stage_one = _over(stage_one, hits, labels, counts) if stage_one is not None else {}
    over_best = _over(hits[best], {name: own for name, own in hits.items() if name != best}, labels, counts)
    rows = [
        {
            "method": name,
            "settings": methods.changed_settings(choice.method),
            "value": choice.value,
            "gain": _plain(over_stage_one.get(name)),
            "over_best": _plain(over_best.get(name)),
            "left": len(search.left[name]),
            "tried": choice.told()["tried"],
        }
        for name, choice in ranking
    ]
    value = None
    if stage_one is not None:
        value = top1_metrics(np.where(stage_one[0], labels, -1), labels, counts)[CRITERION]
    gain = over_stage_one.get(best)
    keep = gain is not None and gain.low <= 0
    equals = [name for name, found in over_best.items() if not found.is_more_than_chance]
    return {
        "held_out": str(candidates.holdout),
        "samples": len(labels),
        "criterion": CRITERION,
        "seeds": list(seeds),
        STAGE_ONE: value,
        "ship": STAGE_ONE if keep else best,
        "equals": equals,
        "methods": rows,
        "untried": search.untried,
    }


def _hits(candidates: Candidates, choice: Choice, seeds: Sequence[int]) -> Hits:
    """Whether each seed's classifier is right on what is held out, [S, N]."""
    right = []
    for job in candidates.jobs(choice.method, seeds):
        right.append(predictions.read(candidates.saved.folder(job) / runs.PREDICTIONS).hits)
    return np.stack(right)


def _stage_one_hits(work: Work, candidates: Candidates) -> Hits | None:
    """The same of stage one's classifier, [1, N], if there is one."""
    if work.features.classifier is None:
        return None
    softmax, holdout = losses.get("cross_entropy", activation="softmax"), candidates.holdout
    found = predict(
        work.features.classifier, work.features, holdout.split, softmax, work.device, positions=holdout.positions
    )
    right: Hits = found.classes[:, 0] == found.labels
    return right[None]


def _over(
    baseline: Hits, hits: Mapping[str, Hits], labels: NDArray[np.int64], counts: NDArray[np.int64]
) -> dict[str, Gain]:
    """What each is better by than a baseline."""
    paired = [len(own) == len(baseline) for own in hits.values()]
    found = bootstrap.gains(list(hits.values()), baseline, labels, counts, paired) if hits else []
    gains = {name: gain[CRITERION] for name, gain in zip(hits, found, strict=True)}
    return {name: gain for name, gain in gains.items() if gain is not None}


def _plain(gain: Gain | None) -> list[float] | None:
    return None if gain is None else [gain.mean, gain.low, gain.high]
