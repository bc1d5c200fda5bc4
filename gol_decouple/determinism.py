"""Computing so that equal inputs give equal bits, also on a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gol_decouple.errors import InputError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_EQUAL_BITS = (":4096:8", ":16:8")
_REFUSED = " does not have a deterministic implementation"


@contextmanager
def deterministic(wanted: bool = True) -> Iterator[None]:
    """Only operations that give equal bits each time are used inside the `with` block; then all is as it was before.

    On a CPU results are equal anyway, for one number of threads. TF32 is left as it is: it is less exact, and equal.

    Args:
        wanted: False changes nothing.

    Raises:
        InputError: an operation has no such form on the device, or CUDA was started in a way that rules it out.
    """
    if not wanted:
        yield
        return
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    workspace = _prepare_cublas()
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        operation, refused, _ = str(error).partition(_REFUSED)
        if not refused:
            raise
        told = f"{operation.strip()} has no deterministic form on this device"
        hint = "leave --deterministic out (deterministic = false in a config), or choose another --device"
        raise InputError(told, hint) from None
    finally:
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        _restore(workspace)


def _prepare_cublas() -> str | None:
    """Set cuBLAS's workspace, which it looks at when it starts; returns what it was."""
    before = os.environ.get(WORKSPACE)
    if before not in _EQUAL_BITS:
        if _cuda_runs():
            told = f"CUDA is running in this process already, with {WORKSPACE} {before or 'unset'}"
            raise InputError(told, f"set {WORKSPACE}={_EQUAL_BITS[0]} before the program starts")
        os.environ[WORKSPACE] = _EQUAL_BITS[0]
    return before


def _restore(workspace: str | None) -> None:
    if _cuda_runs():
        return  # it is in force until the process ends, and without it the next such block would be refused
    if workspace is None:
        os.environ.pop(WORKSPACE, None)
    else:
        os.environ[WORKSPACE] = workspace


def _cuda_runs() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
