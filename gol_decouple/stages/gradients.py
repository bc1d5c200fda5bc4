"""How much gradient each class gets in stage two, as a sum over its samples and over those of others."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import torch

from gol_decouple import lanes
from gol_decouple.errors import InputError
from gol_decouple.files import write_text

GRADIENTS = "gradients.csv"
COLUMNS = ("epoch", "class", "positive", "negative", "background")


class GradientMass:
    """Sums of |dL/dq_j|, the gradient of each sample's own loss in its logits, for K classifiers and C classes.

    Attributes:
        sums: float64 [K, 3, C], over the samples of class j (positive), those of other classes (negative), and
            background. Columns a loss has beside the classes, as Softmax's for background, are left out.
    """

    def __init__(self, count: int, num_classes: int, device: torch.device) -> None:
        self.sums = torch.zeros(count, 3, num_classes, dtype=torch.float64, device=device)

    def add(self, slopes: torch.Tensor, labels: torch.Tensor) -> None:
        """Add those of a batch; all shapes are fixed, so that it can be recorded as a CUDA graph.

        Args:
            slopes: the gradients [K, B, columns], which stay as they are.
            labels: [K, B], C for background.
        """
        num_classes = self.sums.shape[2]
        sizes = slopes[:, :, :num_classes].abs()
        is_class = labels < num_classes
        own = labels.clamp(max=num_classes - 1).unsqueeze(2)
        positive = sizes.gather(2, own).squeeze(2) * is_class
        self.sums[:, 0].scatter_add_(1, own.squeeze(2), positive.double())
        # A row's own class is no negative of it; background has none.
        sizes.scatter_(2, own, sizes.gather(2, own) * ~is_class.unsqueeze(2))
        kinds = torch.stack([is_class, ~is_class], dim=1).to(sizes.dtype)
        self.sums[:, 1:] += lanes.product(kinds, sizes)


def write_gradients(folder: Path, epochs: torch.Tensor, background: bool) -> None:
    """Write `gradients.csv` into `folder`.

    Args:
        epochs: [E, 3, C], the sums of each epoch.
        background: whether there are background samples; without, that column is empty.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for epoch, sums in enumerate(epochs.tolist(), 1):
        for label, (positive, negative, of_background) in enumerate(zip(*sums, strict=True)):
            last = repr(of_background) if background else ""
            table.writerow((epoch, label, repr(positive), repr(negative), last))
    write_text(folder / GRADIENTS, text.getvalue())


def read_gradients(folder: Path, num_classes: int) -> torch.Tensor:
    """The sums of each epoch, float64 [E, 3, C], in a `gradients.csv`; zeros where there is no background.

    Raises:
        InputError: it is no such file, or of other classes.
    """
    path = folder / GRADIENTS
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        sums = [[float(row[name] or 0.0) for name in COLUMNS[2:]] for row in rows]
        places = [(int(row["epoch"]), int(row["class"])) for row in rows]
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise _unreadable(path, str(error)) from None
    if not rows or places != _expected(len(rows) // num_classes, num_classes):
        raise _unreadable(path, f"it does not have every epoch's {num_classes:,} classes in turn")
    return torch.tensor(sums, dtype=torch.float64).view(-1, num_classes, 3).mT.contiguous()


def _expected(epochs: int, num_classes: int) -> Sequence[tuple[int, int]]:
    return [(epoch, label) for epoch in range(1, epochs + 1) for label in range(num_classes)]


def _unreadable(path: Path, why: str) -> InputError:
    hint = "repeat gol-decouple stage2 with --set stage2.gradients=true --overwrite"
    return InputError(f"the gradients in {path} cannot be read: {why}", hint)
