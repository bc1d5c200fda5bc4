"""`gol_decouple.retrain`: one classifier on a features file, for programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gol_decouple import methods, runtime
from gol_decouple.classifiers import as_tensors
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile, open_features, verify
from gol_decouple.methods import Method
from gol_decouple.settings import Stage2Config
from gol_decouple.stages.closed_form import closed_form
from gol_decouple.stages.evaluation import evaluate as evaluate_classifier
from gol_decouple.stages.evaluation import fitted_temperature, of_trained_classes
from gol_decouple.stages.feed import TrainRows
from gol_decouple.stages.jobs import Job, Retrained, check
from gol_decouple.stages.rows import open_rows
from gol_decouple.stages.together import train_together


def retrain(
    features: str | Path | FeaturesFile,
    method: str | Method = "gumbel",
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    device: str = "auto",
    evaluate: bool = True,
    memory_gb: float | None = None,
    **params: Any,
) -> Retrained:
    """Retrain a classifier on a features file.

    Args:
        features: a features file, open or by path.
        method: a name from `methods.METHODS`, or a record of your own.
        epochs, batch_size, lr: instead of the method's own.
        seed: of the start and of the order of samples.
        evaluate: also fill `.metrics` from the test split, if there is one; not of detection, as accuracy of RoIs is
            no result.
        memory_gb: 10^9 bytes for the train features, which are streamed if they are more; None: half of what is free.
        params: other settings of the method: `start`, `schedule`, `views`, `momentum`, `weight_decay`, `clip_norm`,
            `precision`, and the parameters of its parts.

    A method that starts from the stage-one classifier, on a file that has none, first trains a Softmax classifier.

    Raises:
        InputError: unknown method or setting, a damaged file, or training that diverges.
    """
    opened = features if isinstance(features, FeaturesFile) else open_features(features)
    chosen = methods.default(method, opened.is_detection) if isinstance(method, str) else method
    chosen = chosen.with_settings(epochs=epochs, batch_size=batch_size, lr=lr, **params)
    _check(chosen.settings | {"memory_gb": memory_gb})
    check(chosen, opened.classes)
    if chosen.temperature == "val" and "val" not in opened:
        raise InputError(f"{opened.path} has no val split to fit a temperature on", "temperature='none'")
    if chosen.temperature == "val":
        of_trained_classes(opened, "val")
    if opened is not features:
        verify(opened)
    start = None if opened.classifier is None else as_tensors(opened.classifier)
    first = methods.first_softmax(opened.is_detection) if chosen.start == "stage_one" and start is None else None
    needed = [chosen] if first is None else [chosen, first]
    trained = [each for each in needed if each.is_trained]
    rows = open_rows(opened, runtime.select_device(device), trained, memory_gb) if trained else None
    if first is not None:
        start = as_tensors(_make(opened, rows, Job(first, seed)))
    result = _make(opened, rows, Job(chosen, seed, start))
    if chosen.temperature == "val":
        result = replace(result, temperature=fitted_temperature(result, opened, "val", result.loss))
    if not evaluate or "test" not in opened or opened.is_detection:
        return result
    return replace(result, metrics=evaluate_classifier(result, opened))


def _make(features: FeaturesFile, rows: TrainRows | None, job: Job) -> Retrained:
    if job.method.is_trained and rows is not None:
        ((_, result),) = train_together(rows, [job])
    else:
        result = closed_form(features, job)
    if isinstance(result, InputError):
        raise result
    return result


def _check(settings: dict[str, Any]) -> None:
    """The ranges that the command line's config checks, for those who come through the library.

    A method of one's own can have parameters that no named method has; its loss checks them.
    """
    try:
        Stage2Config.model_validate({key: settings[key] for key in settings.keys() & Stage2Config.model_fields.keys()})
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"{problem['loc'][0]} = {problem['input']!r}: {problem['msg']}") from None
