"""A finished detector put together again from its run: Mask R-CNN, the classifier of its RoIs, and their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple import runs
from gol_decouple.backbones.class_order import classifier_from_torchvision
from gol_decouple.backbones.detector_layouts import MASKS
from gol_decouple.classifiers import Classifier
from gol_decouple.config import load_config
from gol_decouple.detection.figures import CLASS_AP
from gol_decouple.detection.settings import DetectionSettings
from gol_decouple.errors import InputError
from gol_decouple.losses import Loss
from gol_decouple.settings import Config
from gol_decouple.stages.finding import Found
from gol_decouple.stages.loaded import activation_of, load_detector, with_loss
from gol_decouple.stages.restored import read_classes, retrained


@dataclass(frozen=True, eq=False)
class RestoredDetector:
    """A finished detector, on the CPU.

    Attributes:
        found: where it lies.
        model: the run's Mask R-CNN in evaluation mode, with the classifier of stage one.
        classifier: what is applied to the features of RoIs; the first C of its columns are the classes.
        loss: what turns its logits into scores.
        class_names: in label order.
        category_ids: of the classes in annotations and results, [C].
        settings: which boxes are detections, as the run was evaluated.
    """

    found: Found
    config: Config
    model: Any
    classifier: Classifier
    loss: Loss
    class_names: list[str]
    category_ids: NDArray[np.int64]
    settings: DetectionSettings

    @property
    def name(self) -> str:
        """Of the method."""
        return str(self.found.manifest["method"])

    @property
    def has_masks(self) -> bool:
        """Whether its mask predictor was ever fitted."""
        return MASKS not in self.model.unfit


def restore_detector(found: Found) -> RestoredDetector:
    """The detector of a finished run, with the classifier that was found. Its features and annotations are not needed.

    Raises:
        InputError: a file of it that cannot be read, or that does not fit the others; or it is no detector's.
    """
    config = load_config(str(found.run / runs.CONFIG))
    settings = config.detector
    if not found.is_detector or settings is None:
        raise InputError(f"{found.run} is of no detector", "restored.restore restores image classifiers")
    names, category_ids = _classes(found)
    model = load_detector(found.run, config, len(names))
    layer = model.roi_heads.box_predictor.cls_score
    if found.is_retrained:
        classifier, loss = retrained(found, (len(names), layer.in_features))
    else:
        own = classifier_from_torchvision(layer.weight.detach(), layer.bias.detach())
        classifier, loss = with_loss(own, activation_of(config), background=True)
    tested = DetectionSettings(settings.score_threshold, settings.nms, settings.max_detections)
    return RestoredDetector(found, config, model, classifier, loss, names, category_ids, tested)


def _classes(found: Found) -> tuple[list[str], NDArray[np.int64]]:
    """Names and category ids, in label order."""
    path = found.folder / CLASS_AP
    rows = read_classes(path, ["name", "category_id"], len(found.manifest["train_counts"]))
    try:
        ids = np.array([int(row["category_id"]) for row in rows], np.int64)
    except (TypeError, ValueError) as error:
        hint = f"remove {found.folder / runs.MANIFEST} and repeat the command that made it"
        raise InputError(f"{path}, which names the classes, cannot be read: {error}", hint) from None
    return [row["name"] for row in rows], ids
