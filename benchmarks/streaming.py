"""Reading features in shuffled blocks beside NumPy's own reads, and streamed training beside training in memory."""

from __future__ import annotations

import re
import statistics
import threading
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.inputs import gaussians
from benchmarks.timing import rates, report, spread
from gol_decouple import features, methods
from gol_decouple.methods import Method
from gol_decouple.stages.feed import Feed
from gol_decouple.stages.jobs import Job
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.streamed import Streamed
from gol_decouple.stages.together import train_together


def reading(rounds: int = 7, out: Path | None = None) -> None:
    """Shuffled blocks of 1,024 rows, in the page cache, beside np.memmap; and shuffled float32 batches from them."""
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    with gaussians(400_000, 512, 100) as file:
        array = file["train"].features
        assert array.rows_per_block == 1024
        order = np.random.default_rng(0).permutation(array.blocks_per_view)
        block = np.empty((array.rows_per_block, 512), array.dtype)
        offset = _offset(file.path)
        mapped = np.memmap(file.path, array.dtype, "r", offset, array.shape)

        def ours() -> int:
            with array.opened() as descriptor:
                for index in order.tolist():
                    array.read_block(0, index, block, descriptor)
            return len(order)

        def numpy() -> int:
            for index in order.tolist():
                rows = mapped[0, index * 1024 : (index + 1) * 1024]
                block[: len(rows)] = rows
            return len(order)

        def from_file() -> int:
            for index in order.tolist():
                start = index * block.nbytes
                count = min(block.size, array.shape[1] * 512 - index * block.size)
                np.fromfile(file.path, array.dtype, count, offset=offset + start)
            return len(order)

        measured = rates({"ours": ours, "memmap": numpy, "fromfile": from_file}, rounds)
        gigabytes = block.nbytes / 1e9
        figures["blocks of 1,024 rows of 512, GB/s"] = round(statistics.median(measured["ours"]) * gigabytes, 2)
        figures["blocks: read_block / copy from np.memmap"] = spread(measured["ours"], measured["memmap"])
        figures["blocks: read_block / np.fromfile"] = spread(measured["ours"], measured["fromfile"])
    with gaussians(200_000, 1024, 100) as file:
        rows = Streamed(file, torch.device("cpu"), 1, array.rows_per_block * 1024 * 2 * 64)
        feed = Feed("random", "clean", 256, (0,), torch.float32)
        per_core = []
        for number in range(rounds + 1):
            started, wall = time.process_time(), time.perf_counter()
            count = sum(batch.labels.shape[1] for batch in rows.batches([feed], number))
            per_core.append((count / (time.process_time() - started), count / (time.perf_counter() - wall)))
        figures["batches: float16 rows of 1,024 to float32 batches of 256, rows/s and core"] = round(
            statistics.median(cpu for cpu, _ in per_core[1:])
        )
        figures["batches: rows/s of wall time, two threads"] = round(
            statistics.median(wall for _, wall in per_core[1:])
        )
    report("reading", figures, out)


def streaming(
    samples: int = 115_846, size: int = 2048, classes: int = 1000, rounds: int = 3, out: Path | None = None
) -> None:
    """Gumbel's epoch from a file four times larger than memory_gb beside that in memory; and the memory it takes."""
    torch.set_num_threads(1)
    method = methods.get("gumbel").with_settings(batch_size=256, epochs=1, start="fresh")
    with gaussians(samples, size, classes) as file:
        memory_gb = file["train"].features.shape[1] * size * 2 / 4e9
        cpu = torch.device("cpu")
        in_memory = InMemory(file, cpu, 1)
        streamed = Streamed(file, cpu, 1, int(memory_gb * 1e9))

        def train(rows: InMemory | Streamed) -> int:
            return len(list(train_together(rows, [Job(method, 0)])))

        measured = rates({"memory": lambda: train(in_memory), "streamed": lambda: train(streamed)}, rounds)
        taken, before = _memory_taken(file.path, memory_gb, method)
    figures = {
        "shape": f"{samples:,} x {size} float16, {classes} classes, memory_gb {memory_gb:.3f}",
        "streamed / in memory, speed": spread(measured["streamed"], measured["memory"]),
        "largest RssAnon of a process that streams, GB": round(taken, 3),
        "of which before the features were opened, GB": round(before, 3),
    }
    report("streaming", figures, out)


def _memory_taken(path: Path, memory_gb: float, method: Method) -> tuple[float, float]:
    """RssAnon at its largest, and with everything imported but the features, in a process of its own."""
    context = get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_stream_and_watch, args=(path, memory_gb, method, queue))
    process.start()
    taken: tuple[float, float] = queue.get()
    process.join()
    return taken


def _stream_and_watch(path: Path, memory_gb: float, method: Method, queue: Any) -> None:
    torch.set_num_threads(1)
    torch.mm(torch.ones(256, 256), torch.ones(256, 256))
    before = _rss_anon()
    largest, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            largest.append(_rss_anon())

    watcher = threading.Thread(target=watch)
    watcher.start()
    rows = Streamed(features.open(path), torch.device("cpu"), 1, int(memory_gb * 1e9))
    list(train_together(rows, [Job(method, 0)]))
    done.set()
    watcher.join()
    queue.put((max(largest), before))


def _rss_anon() -> float:
    told = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"RssAnon:\s*(\d+) kB", told)
    assert found
    return int(found[1]) * 1024 / 1e9


def _offset(path: Path) -> int:
    import h5py

    with h5py.File(path, "r") as file:
        return int(file["train/features"].id.get_offset())
