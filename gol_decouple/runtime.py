"""Device, precision and random streams."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gol_decouple.errors import InputError

# What is taken to be free where the system does not tell.
UNKNOWN_MEMORY = 4_000_000_000
# About a tenth of a millisecond on one core.
SMALL_STEP = 10_000_000


def select_device(name: str = "auto", local_rank: int | None = None) -> torch.device:
    """The device called `name`; "auto" is a GPU, else the CPU.

    Args:
        local_rank: of several processes on this machine, the number of this one, whose GPU "auto" and "cuda" are; a
            process that sees a single GPU, as SLURM may have it, has that one.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_rank is not None and torch.cuda.device_count() > 1:
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used: {reason}", "--device auto, cpu or cuda") from None
    return device


def free_memory(device: torch.device) -> int:
    """Bytes that can be taken on a device; on the CPU, of what the machine and the process's control group leave."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    group = Path("/sys/fs/cgroup")
    free = _number(Path("/proc/meminfo"), "MemAvailable:", unit=1024)
    limit, used = _number(group / "memory.max"), _number(group / "memory.stat", "anon")
    left = None if limit is None or used is None else max(0, limit - used)
    return min((number for number in (free, left) if number is not None), default=UNKNOWN_MEMORY)


def size_text(num_bytes: int) -> str:
    """Memory in words: 10^9 or 10^6 bytes, to two digits."""
    if num_bytes < 1e8:
        return f"{num_bytes / 1e6:.2g} MB" if num_bytes >= 1e6 else "less than 1 MB"
    return f"{num_bytes / 1e9:.2g} GB" if num_bytes < 1e11 else f"{num_bytes / 1e9:.0f} GB"


def stream_seed(seed: int, *keys: int) -> int:
    """A 63-bit seed for the random stream of (seed, keys): equal keys give equal draws, whatever was drawn before."""
    entropy = [seed % 2**64, *keys]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, *keys: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator at the start of the random stream of (seed, keys)."""
    return torch.Generator(device).manual_seed(stream_seed(seed, *keys))


def autocast_dtype(device: torch.device, precision: str = "auto") -> torch.dtype | None:
    """The dtype of mixed precision, or None for plain float32; "auto" takes what the device is fast at."""
    if precision != "auto":
        return None if precision == "float32" else getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and _cpu_multiplies_bfloat16() else None


def precision_name(dtype: torch.dtype | None) -> str:
    """What `autocast_dtype` gives, in words: "float32", "bfloat16" or "float16"."""
    return "float32" if dtype is None else str(dtype).removeprefix("torch.")


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Mixed precision in `dtype` on `device`; nothing for None."""
    return torch.autocast(device.type, dtype=dtype) if dtype is not None else nullcontext()


@contextmanager
def threads_for(multiply_adds: int) -> Iterator[None]:
    """One CPU thread while steps are small: waiting for each other would cost threads more than they save.

    Args:
        multiply_adds: of one step's largest matrix product.
    """
    before = torch.get_num_threads()
    if multiply_adds < SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores() -> int:
    """How many of the machine's this process may use."""
    return len(os.sched_getaffinity(0))


def default_workers() -> int:
    """Processes that decode and augment beside a training process; several of those share the machine's cores."""
    own = cores()
    # srun binds its tasks to cores of their own as a rule; torchrun does not.
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1") if own == os.cpu_count() else "1"
    trainers = os.environ.get("LOCAL_WORLD_SIZE") or tasks
    return min(8, max(1, own // int(re.match(r"\d*", trainers)[0] or 1) - 1))  # type: ignore[index]  # "8(x2)"


def describe(device: torch.device) -> dict[str, str]:
    """The software and device a result came from, for manifests."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device.type} ({name}, {torch.get_num_threads()} threads)" if device.type == "cpu" else name,
    }


def execution(device: torch.device) -> dict[str, Any]:
    """How this process computes, as far as results depend on it: what the bits of equal runs have in common.

    Returns:
        `device`, its type; `device_name`; on a CPU `threads`, and on a GPU `cuda` and `cudnn`, their versions, and
        `tf32`, whether convolutions use it; and `deterministic` (see `determinism.deterministic`).
    """
    equal = {"deterministic": torch.are_deterministic_algorithms_enabled()}
    if device.type != "cuda":
        name = re.search(r"^model name\s*: (.+)$", _told(Path("/proc/cpuinfo")), re.MULTILINE)
        model = name[1] if name else platform.machine()
        told = f"{model} ({torch.backends.cpu.get_cpu_capability()})" if device.type == "cpu" else model
        return {"device": device.type, "device_name": told, "threads": torch.get_num_threads(), **equal}
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "tf32": torch.backends.cudnn.allow_tf32,
        **equal,
    }


def _cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions; elsewhere they are emulated, which is slower than float32."""
    told = _told(Path("/proc/cpuinfo"))
    return "avx512_bf16" in told or "amx_bf16" in told


def _number(path: Path, name: str = "", unit: int = 1) -> int | None:
    """The number after `name` in what the system tells in `path`, if there is one ("max" is none)."""
    found = re.search(rf"^{re.escape(name)}\s*(\d+)", _told(path), re.MULTILINE)
    return int(found[1]) * unit if found else None


def _told(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="ignore")
    except OSError:
        return ""
