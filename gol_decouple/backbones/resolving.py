"""A config's transform with what it leaves to the backbone filled in."""

from __future__ import annotations

from typing import Any

from gol_decouple.backbones import BACKBONES
from gol_decouple.backbones.detector_resolving import refuse_detector_settings, resolve_detector
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import PLAIN, Config


def resolve(config: Config, progress: Progress = SILENT) -> Config:
    """`config` as its run keeps it: size, interpolation and normalisation are numbers, not left to the backbone.

    What is unset is what the backbone's library says of the images that its weights take, also where none are loaded.
    A size that is set stands alone: images are then squeezed to it unless `transform.resize` says otherwise.

    Args:
        progress: is told what a detector's checkpoint says of itself.

    Raises:
        InputError: an unknown backbone, one without the published weights that are asked for, no size, or settings of
            detectors for images of one label, or the reverse.
    """
    backbone, transform = config.backbone, config.transform
    if backbone.pretrained and config.stage1.checkpoint is not None:
        raise InputError(
            f"backbone.pretrained = true, but stage1.checkpoint = {config.stage1.checkpoint!r}",
            "stage one starts from one of them: --set backbone.pretrained=false",
        )
    if config.data.kind == "lvis":
        return resolve_detector(config, progress)
    refuse_detector_settings(config)
    filled = _own_input(backbone.name, backbone.pretrained)
    if transform.size is not None:
        filled = {key: value for key, value in filled.items() if key not in ("size", "resize")}
    elif transform.random_resized_crop and "size" not in filled:
        raise InputError(
            f"transform.random_resized_crop needs transform.size: {backbone.name} takes images of any size",
            "--set transform.size=64",
        )
    unset = {key: value for key, value in filled.items() if getattr(transform, key) is None}
    return config.model_copy(update={"transform": transform.model_copy(update=unset)})


def _own_input(name: str, pretrained: bool) -> dict[str, Any]:
    """The settings of a transform that belong to a backbone."""
    if name in BACKBONES:
        if pretrained:
            raise InputError(f"there are no published weights of {name}", "weights of your own: --checkpoint model.pth")
        return {"mean": PLAIN, "std": PLAIN}
    from gol_decouple.backbones.libraries import find

    library, model_name = find(name, BACKBONES)
    if pretrained and not library.is_published(model_name):
        raise InputError(
            f"there are no published weights of {name}",
            "--set backbone.pretrained=false, or weights of your own: --checkpoint model.pth",
        )
    return vars(library.network_input(model_name))
