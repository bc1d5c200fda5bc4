"""What the machine says of itself, as far as stage two asks it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gol_decouple import runtime

CPU = torch.device("cpu")
MEMINFO = "MemTotal:       64 kB\nMemFree:        10 kB\nMemAvailable:   50 kB\nBuffers:        7 kB\n"
STAT = "anon_thp 5\nfile 900\nanon 300\nkernel 20\ninactive_anon 8\n"


@pytest.mark.parametrize(
    ("meminfo", "limit", "stat", "free"),
    [
        (MEMINFO, "", "", 50 * 1024),
        (MEMINFO, "max\n", STAT, 50 * 1024),
        (MEMINFO, "1000\n", STAT, 700),
        (MEMINFO, "1000\n", "anon 999\n", 1),
        (MEMINFO, "1000\n", "anon 1000\n", 0),
        (MEMINFO, "1000\n", "anon 1200\n", 0),
        (MEMINFO, "60000\n", STAT, 50 * 1024),
        (MEMINFO, "51499\n", STAT, 51199),
        (MEMINFO, "1000\n", "", 50 * 1024),
        (MEMINFO, "1000\n", "file 900\n", 50 * 1024),
        (MEMINFO, "", STAT, 50 * 1024),
        ("", "1000\n", STAT, 700),
        ("MemTotal: 64 kB\n", "1000\n", STAT, 700),
        ("", "", "", runtime.UNKNOWN_MEMORY),
        ("", "max\n", STAT, runtime.UNKNOWN_MEMORY),
        ("MemTotal: 64 kB\n", "max\n", STAT, runtime.UNKNOWN_MEMORY),
    ],
)
def test_free_memory_is_what_the_machine_and_the_control_group_leave(
    monkeypatch: pytest.MonkeyPatch, meminfo: str, limit: str, stat: str, free: int
) -> None:
    told = {
        Path("/proc/meminfo"): meminfo,
        Path("/sys/fs/cgroup/memory.max"): limit,
        Path("/sys/fs/cgroup/memory.stat"): stat,
    }
    monkeypatch.setattr(runtime, "_told", lambda path: told[path])
    assert runtime.free_memory(CPU) == free


def test_a_gpus_free_memory_is_what_its_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (123, 456))
    monkeypatch.setattr(runtime, "_told", lambda path: MEMINFO)
    assert runtime.free_memory(torch.device("cuda")) == 123


def test_files_that_are_missing_tell_nothing(tmp_path: Path) -> None:
    assert runtime._told(tmp_path / "missing") == ""
    assert runtime._told(tmp_path) == ""
    (tmp_path / "there").write_text("anon 3\n")
    assert runtime._told(tmp_path / "there") == "anon 3\n"


def test_this_machine_has_some_memory_free() -> None:
    assert runtime.free_memory(CPU) > 0


@pytest.mark.parametrize(
    ("name", "gpus", "local_rank", "wanted"),
    [
        ("auto", 0, 3, "cpu"),
        ("auto", 8, 3, "cuda:3"),
        ("cuda", 8, 3, "cuda:3"),
        ("cuda", 8, None, "cuda"),
        ("auto", 1, 3, "cuda"),
        ("cuda:1", 8, 3, "cuda:1"),
        ("cpu", 8, 3, "cpu"),
    ],
)
def test_each_process_has_its_own_gpu(
    monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, local_rank: int | None, wanted: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    one = torch.zeros(1)
    monkeypatch.setattr(torch, "zeros", lambda _, device: one)  # there are no GPUs here
    assert runtime.select_device(name, local_rank) == torch.device(wanted)


@pytest.mark.parametrize(("trainers", "workers"), [(None, 7), ("1", 7), ("2", 3), ("8", 1)])
def test_processes_on_a_machine_share_its_cores(
    monkeypatch: pytest.MonkeyPatch, trainers: str | None, workers: int
) -> None:
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if trainers is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", trainers)
    assert runtime.default_workers() == workers
