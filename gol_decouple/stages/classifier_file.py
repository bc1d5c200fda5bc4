"""A classifier that is trained and kept: the file of its weights, and what its manifest says of the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gol_decouple import methods, runs, sealed_tensors
from gol_decouple.classifiers import Classifier, from_tensors
from gol_decouple.errors import InputError
from gol_decouple.losses import Loss
from gol_decouple.methods import Method
from gol_decouple.stages.gradients import GRADIENTS, read_gradients
from gol_decouple.stages.jobs import Job, Retrained

CLASSIFIER = "classifier.safetensors"


def save_classifier(folder: Path, classifier: Classifier) -> None:
    """Write it into `folder`, which is there.

    Raises:
        EnvironmentFailure: the disk is full.
    """
    told = {"normalise": "true"} if classifier.normalise else None
    sealed_tensors.save(classifier.tensors(), folder / CLASSIFIER, told)


def load_classifier(folder: Path) -> Classifier:
    """The classifier in the folder of a finished one.

    Raises:
        InputError: its file is not there any more, or damaged.
    """
    try:
        tensors, metadata, _ = sealed_tensors.load(folder / CLASSIFIER)
        return from_tensors(tensors, metadata.get("normalise") == "true")
    except ValueError as error:
        raise _unreadable(folder, f"{CLASSIFIER}: {error}") from None
    except KeyError as error:
        raise _unreadable(folder, f"{CLASSIFIER} has no {error}") from None


def facts_of(job: Job, result: Retrained, background: bool) -> dict[str, Any]:
    """What a manifest says of a training, whatever it was trained on."""
    method = result.method
    return {
        "method": method.name,
        "activation": method.activation,
        "loss": method.loss,
        "sampler": method.sampler,
        "classifier": method.classifier,
        "seed": job.seed,
        "settings": method.settings,
        "changed_settings": methods.changed_settings(method, background),
        "started_from": job.started_from,
        "views": result.num_views,
        "shuffled_rows": result.shuffled_rows,
        "stack": list(result.stack),
        "seconds": result.seconds,
        "history": result.history,
    }


def load_retrained(folder: Path, method: Method, loss: Loss, num_classes: int) -> Retrained:
    """What is kept in the folder of a finished one.

    Raises:
        InputError: a file is not there any more, or damaged.
    """
    manifest, classifier = runs.read_manifest(folder), load_classifier(folder)
    try:
        history, views, seconds = (manifest[name] for name in ("history", "views", "seconds"))
        shuffled_rows = manifest["shuffled_rows"]
    except KeyError as error:
        raise _unreadable(folder, f"its {runs.MANIFEST} has no {error}") from None
    temperature = manifest.get("temperature")
    gradients = read_gradients(folder, num_classes) if (folder / GRADIENTS).is_file() else None
    return Retrained(
        *(classifier, method, loss, views, history, seconds, shuffled_rows, temperature),
        gradients=gradients,
        stack=manifest.get("stack", ()),
    )


def _unreadable(folder: Path, reason: str) -> InputError:
    """What to tell of a classifier whose files cannot be used."""
    hint = f"remove {folder} and repeat the command that made it"
    return InputError(f"the classifier in {folder} cannot be read: {reason}", hint)
