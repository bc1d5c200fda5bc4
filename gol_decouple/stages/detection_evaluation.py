"""Average precision of classifiers of RoIs: of the boxes that cached RoIs become, or of the whole detector's masks."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from gol_decouple import classifiers, runs
from gol_decouple.data.annotated import AnnotatedSplit
from gol_decouple.data.annotated_batches import AnnotatedBatches
from gol_decouple.data.loading import clean_keys
from gol_decouple.data.lvis import annotation_file, load_annotated
from gol_decouple.detection import Evaluation, prepare
from gol_decouple.detection.box_evaluation import Evaluated, box_ap
from gol_decouple.detection.box_regression import BoxRegressor
from gol_decouple.detection.figures import manifest_of, save_class_ap
from gol_decouple.detection.ground_truth import GroundTruth
from gol_decouple.detection.roi_boxes import ImageBoxes, ImageRois, Scorer, detect_boxes
from gol_decouple.detection.settings import DetectionSettings
from gol_decouple.detection.whole_detector import detector_ap
from gol_decouple.errors import InputError, few
from gol_decouple.features import FeaturesFile
from gol_decouple.files import file_sha256
from gol_decouple.losses import Loss
from gol_decouple.progress import SILENT, Progress
from gol_decouple.progress.lines import spacing
from gol_decouple.settings import Config
from gol_decouple.stages.cached_rois import box_regressor, cascade_rois
from gol_decouple.stages.loaded import load_detector

Figures = Mapping[str, Any]
Losses = Loss | Sequence[Loss]  # of a classifier; of those of a cascade's stages, one each
T = TypeVar("T")


class DetectionEvaluation:
    """What the classifiers of one features file of RoIs are evaluated with: all with the same annotations and settings.

    Attributes:
        annotations: their file, for manifests: its path and sha256.

    Args:
        config: of the run that the features belong to, if there is one; it has the test settings and the annotations.
        folder: of the run, where its detector is.
        annotations: instead of the config's.

    Raises:
        InputError: no annotations, or such as cannot be used, or of other classes.
    """

    def __init__(
        self,
        features: FeaturesFile,
        config: Config | None,
        folder: Path,
        annotations: Path | None,
        device: torch.device,
        progress: Progress = SILENT,
    ) -> None:
        self._features, self._config, self._folder, self._device = features, config, folder, device
        self._stages = [features]
        self._progress = progress
        self.split = "test" if "test" in features else "val"
        if self.split not in features:
            raise InputError(f"{features.path} has no RoIs to evaluate on", "write it with train and val")
        if annotations is None and config is not None:
            annotations = annotation_file(config.data, "val")
        if annotations is None or not annotations.is_file():
            told = f"{features.path} holds RoIs: average precision needs the annotations of its {self.split} images"
            missing = "" if annotations is None else f", and there is no file {annotations}"
            raise InputError(told + missing, "--annotations lvis_v1_val.json")
        self._annotations = annotations
        self.annotations = {"path": str(annotations.resolve()), "sha256": file_sha256(annotations)}
        self._image_ids = features[self.split].images.ids
        detector = config.detector if config is not None else None
        self._has_masks = detector is not None and detector.masks
        self.settings = (
            DetectionSettings()
            if detector is None
            else DetectionSettings(detector.score_threshold, detector.nms, detector.max_detections)
        )
        self._boxes = prepare(annotations, "bbox", self._image_ids)
        self._category_ids = category_ids(features.classes.names, self._boxes.truth)
        self._found: dict[int, tuple[Figures, Figures | None]] = {}

    @property
    def truth(self) -> GroundTruth:
        """The annotations, with boxes."""
        return self._boxes.truth

    @property
    def category_ids(self) -> NDArray[np.int64]:
        """Those of the classes in annotations, [C]."""
        return self._category_ids

    def of_cascade(self, earlier: Sequence[FeaturesFile]) -> DetectionEvaluation:
        """The same for a cascade, of which this is the last stage: there classifiers, and their losses, are sequences
        of one a stage, and what is evaluated is the mean of their scores.
        """
        found = copy.copy(self)
        found._stages, found._found = [*earlier, self._features], {}
        return found

    def detections(self, pairs: Sequence[tuple[Any, Losses]]) -> Iterator[tuple[tuple[int, int], list[ImageBoxes]]]:
        """Of every image that has RoIs, its height and width, and what each classifier detects in these; in one pass.

        Detections of classes that the image is neither annotated nor negative for are left out.

        Args:
            pairs: classifiers (anything `classifiers.of` takes) with their losses.
        """
        scorers = [_scorer(classifier, loss, self._device) for classifier, loss in pairs]
        evaluated, regressor = Evaluated(self.truth, self._category_ids), self._regressor()
        for rois in self._told(self._rois(), "boxes"):
            found = detect_boxes(rois, regressor, scorers, self.settings)
            yield rois.size, [one.some(evaluated.among(rois.image_id, one.labels)) for one in found]

    def evaluate_together(self, pairs: Sequence[tuple[Any, Losses]]) -> None:
        """Evaluate classifiers with their losses in one pass over the images, for `evaluate` to tell.

        They share what does not depend on them: the features, decoded boxes, and with masks the whole backbone.
        """
        scorers = [_scorer(classifier, loss, self._device) for classifier, loss in pairs]
        found = self._figures(scorers) if scorers else []
        self._found = {id(classifier): figures for (classifier, _), figures in zip(pairs, found, strict=True)}

    def evaluate(self, folder: Path, classifier: Any, loss: Losses) -> dict[str, Any]:
        """Evaluate a classifier and write its `per_class_ap.csv`; returns what its manifest says of detections.

        Args:
            classifier: anything `classifiers.of` takes, of a cascade one a stage; None if there is none, and then all
                figures are None.
            loss: what turns its logits into scores.
        """
        if classifier is None:
            boxes: Figures = _undefined(self._boxes.evaluate([]))
            masks = boxes if self._has_masks else None
        else:
            if id(classifier) not in self._found:
                self.evaluate_together([(classifier, loss)])
            boxes, masks = self._found.pop(id(classifier))
        alone = classifier is not None and not isinstance(loss, Sequence)
        norms = classifiers.of(classifier).class_norms(len(self._category_ids)) if alone else None
        save_class_ap(folder, self._boxes.truth, self._category_ids, boxes, masks, norms)
        return manifest_of(self._boxes.truth, self.settings, boxes, masks)

    def _figures(self, scorers: Sequence[Scorer]) -> Sequence[tuple[Figures, Figures | None]]:
        if self._has_masks:
            return self._of_detector(scorers)
        rois, regressor = self._told(self._rois(), "boxes"), self._regressor()
        found = box_ap(self._boxes, rois, regressor, scorers, self._category_ids, self.settings)
        return [(boxes, None) for boxes in found]

    def _of_detector(self, scorers: Sequence[Scorer]) -> Sequence[tuple[Figures, Figures]]:
        """Of boxes and masks, by the whole detector."""
        images = self._told(self._images(), "boxes and masks")
        return detector_ap(self._boxes, self._masks, self._detector, images, scorers, self._category_ids, self.settings)

    def tell_other(self, folder: Path) -> None:
        """Warn of a finished classifier that was evaluated with something else."""
        told, own = runs.read_manifest(folder).get("detection"), manifest_of(self._boxes.truth, self.settings, {}, None)
        if told is None or all(told[name] == own[name] for name in ("settings", "annotations", "images")):
            return
        other = f"{told['annotations']}, {told['images']} images, {told['settings']}"
        self._progress.warn(f"it was evaluated with other settings ({other}): --overwrite evaluates it anew")

    @cached_property
    def _masks(self) -> Evaluation:
        return prepare(self._annotations, "segm", self._image_ids)

    @cached_property
    def _detector(self) -> torch.nn.Module:
        assert self._config is not None  # or there would be no masks
        there: torch.nn.Module = load_detector(self._folder, self._config, len(self._category_ids)).to(self._device)
        return there

    def _told(self, images: Iterator[T], what: str) -> Iterator[T]:
        """The images, and a line on how many there were whenever that has taken a while."""
        started = last = time.monotonic()
        for done, image in enumerate(images):
            if time.monotonic() - last > spacing(last - started):
                last = time.monotonic()
                self._progress.say(f"evaluating {what}: {done:,}/{len(self._image_ids):,} images")
            yield image

    @cached_property
    def _val(self) -> AnnotatedSplit:
        assert self._config is not None
        return load_annotated(self._config.data, look=False).splits["val"]

    def _images(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Ids and pixels of the val images, where the detector is."""
        assert self._config is not None
        split, workers = self._val, self._config.stage1.num_workers
        for batch in AnnotatedBatches(split, clean_keys(range(len(split)), 1), masks=False, workers=workers):
            yield int(split.ids[batch.indices[0]]), batch.to(self._device).images()[0]

    def _rois(self) -> Iterator[ImageRois]:
        """The RoIs of every image that has any."""
        return cascade_rois(self._stages, self.split, self._device)

    def _regressor(self) -> BoxRegressor:
        return box_regressor(self._features, self._device)


def category_ids(names: list[str], truth: GroundTruth) -> NDArray[np.int64]:
    """The ids of classes [C] in annotations, by their names.

    Raises:
        InputError: classes that are not there, or names that several categories have.
    """
    ids: NDArray[np.int64] = np.asarray(truth.category_ids, np.int64)
    if names == truth.category_names:
        return ids
    by_name = dict(zip(truth.category_names, ids.tolist(), strict=True))
    if missing := [name for name in names if name not in by_name]:
        told = f"{len(missing):,} of {len(names):,} classes are no categories of {truth.name}: {few(missing)}"
        raise InputError(told, "name the annotations of the same dataset as the features")
    if len(by_name) < len(ids):
        raise InputError(f"{truth.name} has several categories of one name", "give each category a name of its own")
    return np.array([by_name[name] for name in names], np.int64)


def _scorer(classifier: Any, loss: Losses, device: torch.device) -> Scorer:
    """What gives the scores of a classifier, or of one a stage: then the mean of their scores."""
    if isinstance(loss, Sequence):
        stages = [_scorer(*one, device) for one in zip(classifier, loss, strict=True)]
        return lambda *features: torch.stack([scores(x) for scores, x in zip(stages, features, strict=True)]).mean(0)
    applied, there = classifiers.of(classifier).to(device), loss.to(device)
    return lambda features: there.scores(applied.logits(features))


def _undefined(figures: Figures) -> Figures:
    """Figures of what is not there."""
    return {**dict.fromkeys(figures), "per_class": dict.fromkeys(figures["per_class"])}
