"""Models of stage one in half the bytes, for others to go on from."""

from __future__ import annotations

from pathlib import Path

import torch

from gol_decouple import sealed_tensors
from gol_decouple.stages.belonging import load_tensors


def write_model(run: Path, path: Path) -> None:
    """Write a run's model as safetensors with its floating-point numbers in bfloat16, which `--checkpoint` takes.

    Raises:
        InputError: the run's model cannot be read, or is not the one that its features are of.
    """
    tensors = load_tensors(run)
    halved = {name: one.to(torch.bfloat16) if one.is_floating_point() else one for name, one in tensors.items()}
    sealed_tensors.save(halved, path)
