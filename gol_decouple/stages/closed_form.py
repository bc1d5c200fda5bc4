"""Classifiers that are not trained: corrections of a trained one, and nearest class means."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gol_decouple import classifiers, posthoc
from gol_decouple.classifiers import Classifier
from gol_decouple.errors import InputError, few
from gol_decouple.features import FeaturesFile
from gol_decouple.stages.jobs import Job, Retrained, loss_of
from gol_decouple.stages.samples import TRAIN, Samples

_ROWS_AT_ONCE = 4096


def closed_form(features: FeaturesFile, job: Job, samples: Samples = TRAIN) -> Retrained | InputError:
    """The classifier of a job whose method is not trained, or why there is none; its features are read if need be."""
    started = time.perf_counter()
    method, facts = job.method, samples.facts(features)
    loss, counts = loss_of(method, facts), samples.counts(features)
    if features.classes.image_counts is not None:
        counts = features.classes.image_counts  # how many RoIs there are of a class is a choice of their sampling
    if method.posthoc is None:
        params = dict(method.classifier_params)
        made = classifiers.nearest_mean(lambda: _clean(features, samples), len(counts), features.feature_size, **params)
    else:
        weight, bias = classifiers.as_tensors(job.stage_one)
        correction = posthoc.get(method.posthoc, class_counts=counts, weight=weight, **method.posthoc_params)
        made = classifiers.Classifier(*correction.fold(weight, bias))
    if told := _not_finite(made, features.classes.names):
        settings = {**method.posthoc_params, **method.classifier_params}
        given = ", ".join(f"{name} {value}" for name, value in settings.items())
        return InputError(f"{method.name} ({given}) gives weights that are not finite: {told}", "try other parameters")
    return Retrained(made, method, loss, 1, [], time.perf_counter() - started)


def _not_finite(made: Classifier, names: Sequence[str]) -> str:
    """The classes whose weights or bias are not finite, if there are any."""
    finite = made.weight.isfinite().all(1) & made.bias.isfinite()
    finite &= True if made.centre is None else made.centre.isfinite().all()
    bad = [place for place, is_finite in enumerate(finite.tolist()) if not is_finite]
    called = [repr(names[place]) if place < len(names) else "background" for place in bad]
    return f"{len(bad):,} of {len(finite):,} classes, {few(called)}" if bad else ""


def _clean(features: FeaturesFile, samples: Samples) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The clean view of all samples, in batches of features [B, D] and labels [B]."""
    parts: list[tuple[str, NDArray[np.int64]]] = [("train", samples.kept(features))]
    if samples.with_val:
        parts.append(("val", np.arange(len(features["val"]))))
    for name, positions in parts:
        split = features[name]
        for start in range(0, len(positions), _ROWS_AT_ONCE):
            part = positions[start : start + _ROWS_AT_ONCE]
            yield torch.from_numpy(split.features[0, part]), torch.from_numpy(split.labels[part])
