"""Deterministic operations: what is set, what is refused, and that nothing of it stays."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from gol_decouple import runtime
from gol_decouple.determinism import WORKSPACE, deterministic
from gol_decouple.errors import InputError

CPU = torch.device("cpu")


def state() -> tuple[object, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        os.environ.get(WORKSPACE),
    )


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(WORKSPACE, raising=False)
    yield
    torch.use_deterministic_algorithms(False)


def unequal() -> None:
    torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))


def test_it_is_set_and_taken_back() -> None:
    before = state()
    with deterministic():
        assert state() == (True, False, True, False, ":4096:8")
        with deterministic():
            assert state()[0]
        assert state() == (True, False, True, False, ":4096:8")
        assert runtime.execution(CPU)["deterministic"] is True
    assert state() == before
    assert runtime.execution(CPU)["deterministic"] is False


def test_not_wanted_changes_nothing() -> None:
    before = state()
    with deterministic(False):
        assert state() == before
        unequal()


def test_what_a_program_set_itself_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv(WORKSPACE, ":16:8")
    before = state()
    with deterministic():
        assert state() == (True, False, True, False, ":16:8")
    assert state() == before
    with pytest.raises(KeyError), deterministic():
        raise KeyError
    assert state() == before


def test_an_operation_without_such_a_form_is_told_by_name() -> None:
    before = state()
    with pytest.raises(InputError, match=r"^put_ has no deterministic form on this device$") as caught, deterministic():
        unequal()
    assert caught.value.hint is not None
    assert "--deterministic" in caught.value.hint
    assert state() == before


def test_other_failures_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="something else"), deterministic():
        raise RuntimeError("something else")


def test_cuda_that_runs_without_the_workspace_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = state()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(InputError, match="CUDA is running in this process already") as caught, deterministic():
        pass
    assert caught.value.hint is not None
    assert "CUBLAS_WORKSPACE_CONFIG=:4096:8" in caught.value.hint
    assert state() == before


def test_a_workspace_that_cuda_was_started_with_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, "unfit")
    for _ in range(2):  # the second time it runs already
        with deterministic():
            monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        assert os.environ[WORKSPACE] == ":4096:8"
