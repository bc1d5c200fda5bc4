"""A model as an ONNX file: normalised images in, logits and scores out."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from gol_decouple.errors import InputError
from gol_decouple.export.told import input_of
from gol_decouple.stages.restored import Restored

PACKAGES = ("onnx", "onnxscript")
# What one file can hold; weights beside it are a second file, which nobody expects to have to move along.
LARGEST = 2 * 10**9


def as_onnx(model: Restored) -> Callable[[Path], object]:
    """What writes the model's ONNX file to a path; every classifier can be written so.

    Its input is `images` [N, 3, H, W], float32, resized and normalised, for any N; its outputs are `logits` [N, C],
    which order the classes, and `scores` [N, C].

    Raises:
        InputError: packages that it needs are missing, or the model is larger than a file can be.
    """
    _check_packages()
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.model.state_dict().values())
    if size > LARGEST:
        raise InputError(f"the model has {size / 1e9:.1f} GB, and an ONNX file at most 2", "--format safetensors")
    height, width = input_of(model)["size"]
    program = _program(_Whole(model).eval(), torch.zeros(2, 3, height, width))
    return lambda path: program.save(path, external_data=False)


class _Whole(nn.Module):
    """Images to logits and scores."""

    def __init__(self, model: Restored) -> None:
        super().__init__()
        self.backbone = model.model.backbone
        self.loss = model.loss
        self._model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self._model.classifier.logits(self.backbone(images))
        return self.loss.ranking(logits), self._model.scores(logits)


def _program(whole: nn.Module, images: torch.Tensor) -> torch.onnx.ONNXProgram:
    """The graph; what the exporter prints on its way is for those who mend exporters."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            whole,
            (images,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits", "scores"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        )
    assert program is not None
    return program


def _check_packages() -> None:
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError:
            raise InputError(f"ONNX files need {package}", 'pip install "gol-decouple[onnx]"') from None
