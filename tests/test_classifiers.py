"""Classifiers against autograd through their formulas, and what they start as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

import gol_decouple
from gol_decouple import classifiers, features, losses, methods
from gol_decouple.errors import InputError
from gol_decouple.stages.evaluation import predict
from gol_decouple.stages.stack import Stack
from tests.conftest import RunCli

Formula = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def lws(trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return trained * (x @ weight.t() + bias)


def cosine(scale: float | None) -> Formula:
    def logits(trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        own = trained[: weight.numel()].view_as(weight)
        cosines = (x @ own.t()) / (x.norm(dim=1, keepdim=True) * own.norm(dim=1))
        return (trained[-1] if scale is None else scale) * cosines

    return logits


def linear(trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return x @ trained[: weight.numel()].view_as(weight).t() + trained[weight.numel() :]


def disalign(trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """conf (s z + b) + (1 - conf) z, as DisAlign's authors write it."""
    columns, size = weight.shape
    scale, shift, direction, offset = trained.split([columns, columns, size, 1])
    plain, confidence = x @ weight.t() + bias, torch.sigmoid(x @ direction + offset).unsqueeze(1)
    return confidence * (scale * plain + shift) + (1 - confidence) * plain


KINDS: list[tuple[str, dict[str, object], Formula]] = [
    ("linear", {}, linear),
    ("lws", {}, lws),
    ("cosine", {"cosine_scale": 5.0}, cosine(5.0)),
    ("cosine", {"cosine_scale": 5.0, "learn_scale": True}, cosine(None)),
    ("disalign", {}, disalign),
]
EVERY_KIND = pytest.mark.parametrize(("name", "params", "formula"), KINDS)


def drawn(*sizes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


@EVERY_KIND
def test_logits_and_gradient_are_those_of_the_formula(name: str, params: dict[str, object], formula: Formula) -> None:
    weight, bias, x = drawn(2, 4, 3).double(), drawn(2, 4, seed=1).double(), drawn(6, 3, seed=2).double()
    slopes = drawn(6, 4, seed=3).double()
    kind = classifiers.get(name, **params)(weight, bias)
    trained = kind.initial * 1.2 + 0.3 * drawn(*kind.initial.shape, seed=4).double()
    taken = (F.normalize(x, dim=1) if kind.normalise else x).expand(2, -1, -1)
    out = taken.new_empty(2, 6, 4)
    logits = kind.logits(trained, taken, out).clone()
    gradient = kind.gradient(trained, taken, slopes.expand(2, -1, -1))
    for place in range(2):
        own = trained[place].clone().requires_grad_(True)
        wanted = formula(own, weight[place], bias[place], x)
        torch.testing.assert_close(logits[place], wanted.detach())
        (wanted * slopes).sum().backward()
        torch.testing.assert_close(gradient[place].double(), own.grad, rtol=1e-5, atol=1e-5)
        single = classifiers.get(name, **params)(weight.float(), bias.float())
        applied = single.classifier(trained.float(), place).logits(x.float())
        torch.testing.assert_close(applied.double(), wanted.detach(), rtol=1e-4, atol=1e-5)


@EVERY_KIND
@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_steps_are_those_of_sgd(
    name: str, params: dict[str, object], formula: Formula, clip_norm: float | None
) -> None:
    weight, bias, lr = drawn(4, 3), drawn(4, seed=1), 0.1
    method = replace(methods.get("softmax"), classifier=name, classifier_params=params, weight_decay=0.01)
    method = replace(method, clip_norm=clip_norm)
    loss = losses.get("cross_entropy", activation="softmax")
    stack = Stack([(weight, bias)], method, loss, 8, torch.device("cpu"))
    own = stack.trained[0].clone().requires_grad_(True)
    optimizer = torch.optim.SGD([own], lr, momentum=0.9, weight_decay=0.01)
    for step in range(5):
        x, labels = drawn(8, 3, seed=step), torch.arange(8) % 4
        stack.step(x[None], labels[None], torch.tensor([[-lr]]))
        optimizer.zero_grad()
        F.cross_entropy(formula(own, weight, bias, x), labels).backward()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([own], clip_norm)
        optimizer.step()
    torch.testing.assert_close(stack.trained[0], own.detach(), rtol=1e-4, atol=1e-5)


def test_learnable_scales_start_as_the_stage_one_classifier() -> None:
    weight, bias = drawn(2, 4, 3), drawn(2, 4, seed=1)
    kind = classifiers.get("lws")(weight, bias)
    assert kind.initial.tolist() == [[1.0] * 4] * 2
    for place in range(2):
        found = kind.classifier(kind.initial, place)
        assert torch.equal(found.weight, weight[place])
        assert torch.equal(found.bias, bias[place])


def test_disalign_starts_as_the_stage_one_classifier() -> None:
    weight, bias, x = drawn(2, 4, 3), drawn(2, 4, seed=1), drawn(6, 3, seed=2)
    kind = classifiers.get("disalign")(weight, bias)
    for place in range(2):
        plain = classifiers.Classifier(weight[place], bias[place])
        assert torch.equal(kind.classifier(kind.initial, place).logits(x), plain.logits(x))


def test_a_cosine_classifier_starts_with_weights_of_length_one() -> None:
    kind = classifiers.get("cosine", cosine_scale=7.0)(drawn(2, 4, 3), drawn(2, 4))
    for place in range(2):
        found = kind.classifier(kind.initial, place)
        torch.testing.assert_close(found.weight.norm(dim=1), torch.full((4,), 7.0))
        assert not found.bias.any()


@pytest.mark.parametrize("name", classifiers.names())
def test_dropping_some_leaves_the_others(name: str) -> None:
    kind = classifiers.get(name)(drawn(3, 4, 2), drawn(3, 4, seed=1))
    before = [kind.classifier(kind.initial, place).tensors() for place in range(3)]
    kept = kind.initial[[2, 0]]
    kind.keep([2, 0])
    for place, old in enumerate([2, 0]):
        found = kind.classifier(kept, place).tensors()
        assert found.keys() == before[old].keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in before[old].items())


def test_what_is_unknown_or_out_of_range_is_named() -> None:
    with pytest.raises(InputError, match="unknown classifier 'cosin'"):
        classifiers.get("cosin")
    with pytest.raises(InputError, match="classifier 'lws' has no parameter 'cosine_scale'"):
        classifiers.get("lws", cosine_scale=2.0)
    with pytest.raises(InputError, match=r"classifier 'cosine': cosine_scale = 0: must be above 0"):
        classifiers.get("cosine", cosine_scale=0)(drawn(1, 2, 2), drawn(1, 2))


# In stage two


def test_lws_only_scales_what_it_starts_from(gaussians: Path) -> None:
    start = features.open(gaussians).classifier
    result = gol_decouple.retrain(gaussians, "lws", epochs=3)
    ratios = result.weight / torch.as_tensor(start.weight).float()
    torch.testing.assert_close(ratios, ratios[:, :1].expand_as(ratios), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.bias, ratios[:, 0] * torch.as_tensor(start.bias).float(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ratios, torch.ones_like(ratios))


@pytest.mark.parametrize("params", [{"cosine_scale": 8.0}, {"cosine_scale": 8.0, "learn_scale": True}])
@pytest.mark.parametrize("loss", ["cross_entropy", "ldam"])
def test_a_cosine_classifier_is_evaluated_on_features_of_length_one(
    gaussians: Path, loss: str, params: dict[str, object]
) -> None:
    method = replace(methods.get("softmax"), classifier="cosine", classifier_params=params, loss=loss)
    result = gol_decouple.retrain(gaussians, method, epochs=3)
    test = features.open(gaussians)["test"]
    x = torch.from_numpy(test.features[0]).float()
    logits = F.normalize(x, dim=1) @ result.weight.t()
    assert not result.bias.any()
    torch.testing.assert_close(result.scores(x), result.loss.scores(logits))
    found = predict(result, features.open(gaussians), "test", result.loss)
    np.testing.assert_allclose(found.scores[:, 0], result.scores(x).max(1).values.numpy(), rtol=1e-5)
    assert result.metrics["top1"] == pytest.approx(100 * (logits.argmax(1).numpy() == test.labels).mean())
    # The length of a feature changes no ranking, where there is no bias.
    assert torch.equal(result.to_linear()(x).argmax(1), logits.argmax(1))


def test_a_saved_cosine_classifier_says_that_it_takes_features_of_length_one(
    run_cli: RunCli, gaussians: Path, tmp_path: Path
) -> None:
    arguments = ["stage2", gaussians, "--runs-dir", tmp_path, "--set", "stage2.epochs=1"]
    assert run_cli(*arguments, "--method", "ldam_drw", "--method", "lws").code == 0
    for file in tmp_path.rglob("classifier.safetensors"):
        with safe_open(file, "pt") as opened:
            told = (opened.metadata() or {}).get("normalise")
        assert told == ("true" if file.parent.name.startswith("ldam_drw") else None)
