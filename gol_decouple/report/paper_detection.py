"""Published AP on LVIS, below a table whose classes, val images, detector and test settings are those of the paper."""

from __future__ import annotations

from dataclasses import dataclass

from gol_decouple.report.layout import EMPTY, TextTable
from gol_decouple.report.paper import architecture
from gol_decouple.report.rows import Row

_GOL = "GOL, ECCV 2022"
_GOL_1 = f"{_GOL}, Table 1"
_DROP_1, _DROP_2 = (f"DropLoss, AAAI 2021, Table {number}" for number in (1, 2))
_BALANCED = "Balanced Activation, 2020, Table 2"
_RESNET50, _RESNET101 = ("resnet50", "maskrcnn_resnet50_fpn"), ("resnet101",)


@dataclass(frozen=True)
class Published:
    """A row of a paper's table, in points: AP of masks, of rare, common and frequent classes, and of boxes.

    Attributes:
        recipe: schedule, image sampler, and whether the classifier was retrained (decoupled) or all trained together.
        backbones: of the Mask R-CNN, by the names that manifests have for it.
        nms: the IoU threshold it was tested with: GOL's code says which; others have the usual one.
    """

    method: str
    recipe: str
    source: str
    ap: float
    groups: tuple[float, float, float] | None = None
    box: float | None = None
    backbones: tuple[str, ...] = _RESNET50
    nms: float = 0.5


# The number of rare, common and frequent classes: what tells the two versions of LVIS from other data.
V1, V05 = (337, 461, 405), (454, 461, 315)
_RANDOM, _REPEATED = "all trained, 1x, random sampling", "all trained, 1x, RFS"
_TOGETHER, _DECOUPLED = "all trained", "decoupled, 10 epochs, RFS"
_GOL_RECIPE = "all trained, 2x, RFS, normalised masks"
FIGURES = {
    V1: (
        Published("Softmax", _RANDOM, _GOL_1, 15.2, (0.0, 10.6, 26.9), 16.1),
        Published("Sigmoid", _RANDOM, _GOL_1, 16.4, (0.8, 12.7, 27.3), 17.2),
        Published("Gumbel", _RANDOM, _GOL_1, 19.0, (4.9, 16.8, 27.6), 19.1),
        Published("Softmax", _REPEATED, _GOL_1, 21.5, (9.7, 20.7, 27.6), 22.4),
        Published("Sigmoid", _REPEATED, _GOL_1, 22.0, (11.4, 20.9, 27.9), 23.0),
        Published("Gumbel", _REPEATED, _GOL_1, 22.7, (12.2, 21.2, 28.0), 22.9),
        Published("GOL", _GOL_RECIPE, _GOL, 27.7, (21.4, 27.7, 30.4), 27.5, nms=0.3),
        Published("GOL", _GOL_RECIPE, _GOL, 29.0, (22.8, 29.0, 31.7), 29.2, _RESNET101, nms=0.3),
        Published("baseline", _TOGETHER, _DROP_2, 16.2),
        Published("EQL", _TOGETHER, _DROP_2, 18.4),
        Published("DropLoss", _TOGETHER, _DROP_2, 19.8),
        Published("baseline", f"{_TOGETHER}, RFS", _DROP_2, 18.8),
        Published("EQL", f"{_TOGETHER}, RFS", _DROP_2, 21.0),
        Published("DropLoss", f"{_TOGETHER}, RFS", _DROP_2, 22.3),
        Published("baseline", f"{_TOGETHER}, RFS", _BALANCED, 22.1, (11.6, 21.1, 27.8), 23.6),
        Published("cRT", _DECOUPLED, _BALANCED, 23.2, (14.7, 22.5, 27.8), 24.8),
        Published("LWS", _DECOUPLED, _BALANCED, 23.3, (14.9, 22.5, 27.8), 24.8),
        Published("EQL", _DECOUPLED, _BALANCED, 24.2, (16.5, 24.2, 27.5), 25.8),
        Published("Balanced Sigmoid", _DECOUPLED, _BALANCED, 25.1, (18.3, 24.0, 29.3), 26.7),
    ),
    V05: (
        Published("BCE", _TOGETHER, _DROP_1, 21.5),
        Published("EQL", _TOGETHER, _DROP_1, 23.8),
        Published("DropLoss", _TOGETHER, _DROP_1, 25.5),
        Published("GOL", _GOL_RECIPE, _GOL, 29.5, (22.5, 31.3, 30.1), 28.2, nms=0.3),
    ),
}
IMAGES = {V1: 19_809, V05: 5_000}  # of the val split that all of them were tested on
MAX_DETECTIONS = 300


def published(row: Row) -> TextTable | None:
    """The papers' figures for what a row was trained and tested on; None if there are none.

    They are AP of masks, with that of boxes beside it, so that a row of boxes alone has those that tell it.
    """
    settings = row["test_settings"]
    groups = row["num_r"], row["num_c"], row["num_f"]
    if settings["max_detections"] != MAX_DETECTIONS or settings["images"] != IMAGES.get(groups):
        return None
    has_masks, name = row["ap"] is not None, architecture(row["backbone"])
    found = [
        one
        for one in FIGURES[groups]
        if name in one.backbones and one.nms == settings["nms_threshold"] and (has_masks or one.box is not None)
    ]
    if not found:
        return None
    columns = ["method", "recipe", *(["AP", "APr", "APc", "APf"] if has_masks else []), "APb"]
    cells = [_cells(one, has_masks) for one in found]
    notes = ["quoted, not measured here; other implementations, and image sizes and schedules of their own"]
    return TextTable("published for these classes, this detector and this NMS", columns, cells, notes)


def _cells(one: Published, has_masks: bool) -> list[str]:
    masks = [one.ap, *(one.groups or (None, None, None))] if has_masks else []
    points = [EMPTY if value is None else f"{value:.1f}" for value in (*masks, one.box)]
    return [one.method, f"{one.source}: {one.recipe}", *points]
