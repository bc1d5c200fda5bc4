"""How often predictions are right, against how sure they are (Guo et al., ICML 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from gol_decouple import predictions
from gol_decouple.progress import Progress
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.studies import Setting, Study
from gol_decouple.report.figures.style import GREY, INK, PANEL, grid, text
from gol_decouple.runs import PREDICTIONS

Floats = NDArray[np.float64]

BINS = 15  # as the calibration errors of manifests have
COLUMNS = ("method", "bin", "samples", "confidence", "accuracy")


@dataclass(frozen=True, eq=False)
class Reliability:
    """Samples in 15 equal bins of the score of their predicted class; [15].

    Attributes:
        samples: in each bin.
        confidence: the mean of their scores, NaN in an empty bin.
        accuracy: the share of them that is right, NaN in an empty bin.
    """

    samples: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def ece(self) -> float:
        """The expected calibration error in percent: the mean over samples of their bin's |accuracy - confidence|."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float(100.0 * (gaps * self.samples).sum() / self.samples.sum())


def reliability_of(scores: NDArray[np.float32], hits: NDArray[np.bool_]) -> Reliability:
    """Of the scores of predicted classes and whether they are right, [N]; scores above 1 are in the last bin."""
    # In float32, as the bins of a manifest's error are found.
    bins = np.clip((scores * np.float32(BINS)).astype(np.int64), 0, BINS - 1)
    samples = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bins, weights=scores.astype(np.float64), minlength=BINS) / samples
        accuracy = np.bincount(bins, weights=hits.astype(np.float64), minlength=BINS) / samples
    return Reliability(samples, confidence, accuracy)


def reliability(study: Study, progress: Progress) -> Drawn | None:
    """A panel for each method: a bar for the accuracy of every bin, and the diagonal."""
    found = study.of_shown(_of, progress)
    if not found:
        return None

    def draw(axes: Axes, of_setting: tuple[Setting, tuple[Reliability, float]]) -> None:
        setting, (one, error) = of_setting
        _bars(axes, one, GREY if setting.is_stage_one else study.look(setting).colour)
        axes.set_title(f"{text(setting.name)}\nECE {error:.1f} %")

    figure = grid(found, draw, ("score of the prediction", "right (%)"), (PANEL - 0.4, PANEL - 0.1))
    return Drawn(
        study.name("reliability"),
        study.title("Reliability of scores"),
        f"Test samples of all seeds in {BINS} equal bins of the score of their predicted class: a bar is the share "
        "that is right, its dot stands at the mean score. On the diagonal scores are probabilities; bars below it are "
        "too sure. ECE: the mean over samples of the distance from it, mean over seeds." + study.left_out,
        "Expected calibration errors in percent: "
        + "; ".join(f"{setting.name} {error:.1f}" for setting, (_, error) in found)
        + ".",
        figure,
        COLUMNS,
        [row for setting, (one, _) in found for row in _rows(setting.name, one)],
    )


def _rows(name: str, one: Reliability) -> list[tuple[object, ...]]:
    values = zip(one.samples.tolist(), one.confidence.tolist(), one.accuracy.tolist(), strict=True)
    return [(name, place, *each) for place, each in enumerate(values, 1)]


def _bars(axes: Axes, one: Reliability, colour: str) -> None:
    places = (np.arange(BINS) + 0.5) / BINS
    axes.bar(places, 100.0 * np.nan_to_num(one.accuracy), 0.9 / BINS, color=colour, alpha=0.8)
    axes.plot(one.confidence, 100.0 * one.accuracy, "o", color=INK, markersize=2.0)
    axes.plot([0, 1], [0, 100], color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 100)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_aspect(0.01)


def _of(setting: Setting) -> tuple[Reliability, float] | None:
    """Of all seeds together, and the mean of their errors; None where a seed has no scores."""
    told = []
    for row in setting.seeds:
        path = Path(row["path"]) / PREDICTIONS
        if not path.is_file():
            return None
        found = predictions.read(path)
        if found.scores is None or not np.isfinite(found.scores[:, 0]).all():
            return None
        told.append((found.scores[:, 0], found.hits))
    errors = [reliability_of(*one).ece for one in told]
    scores, hits = (np.concatenate(parts) for parts in zip(*told, strict=True))
    return reliability_of(scores, hits), float(np.mean(errors))
