"""Decoupled training for long-tailed recognition: keep the Softmax backbone, retrain only the classifier."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gol_decouple import activations, detection, features, losses
    from gol_decouple.stages.evaluation import evaluate
    from gol_decouple.stages.retrain import retrain

__version__ = "0.1.0"
__all__ = ["__version__", "activations", "detection", "evaluate", "features", "losses", "retrain"]

# Public name -> module; imported on first use, so that `--help` and `report` never wait for torch.
_LAZY = {
    "activations": "gol_decouple.activations",
    "detection": "gol_decouple.detection",
    "features": "gol_decouple.features",
    "losses": "gol_decouple.losses",
    "evaluate": "gol_decouple.stages.evaluation",
    "retrain": "gol_decouple.stages.retrain",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    return module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
