"""torchvision's class order and ours: background first, and last."""

from __future__ import annotations

import torch

from gol_decouple.backbones.class_order import (
    LinearLayer,
    classifier_from_torchvision,
    classifier_to_torchvision,
    labels_to_torchvision,
    regressor_from_torchvision,
)


def test_labels_move_by_one_and_background_comes_first() -> None:
    ours = torch.tensor([-1, 0, 1, 2, 3])  # of three classes, 3 is background
    assert labels_to_torchvision(ours, 3).tolist() == [-1, 1, 2, 3, 0]


def test_a_classifier_gives_the_same_logits_with_background_last() -> None:
    layer, x = torch.nn.Linear(5, 4), torch.randn(6, 5)
    weight, bias = classifier_from_torchvision(layer.weight, layer.bias)
    theirs = layer(x)
    torch.testing.assert_close(x @ weight.T + bias, theirs[:, [1, 2, 3, 0]])


def test_a_classifier_goes_back_with_background_first() -> None:
    layer = torch.nn.Linear(5, 4)
    weight, bias = classifier_to_torchvision(classifier_from_torchvision(layer.weight, layer.bias), 3)
    assert torch.equal(weight, layer.weight)
    assert torch.equal(bias, layer.bias)


def test_a_background_that_a_classifier_does_not_have_is_never_the_likeliest() -> None:
    weight, bias = classifier_to_torchvision(LinearLayer(torch.ones(3, 5), torch.arange(3.0)), 3)
    assert torch.equal(weight, torch.tensor([[0.0] * 5, *[[1.0] * 5] * 3]))
    assert bias.tolist() == [-100.0, 0.0, 1.0, 2.0]


def test_a_regressor_gives_each_class_its_own_deltas_and_background_none() -> None:
    layer, x = torch.nn.Linear(5, 16), torch.randn(5)
    weight, bias = regressor_from_torchvision(layer.weight, layer.bias)
    assert weight.shape == (3, 4, 5)
    assert bias.shape == (3, 4)
    deltas = layer(x)  # torchvision's: four of each class, background's first
    for label in range(3):
        torch.testing.assert_close(weight[label] @ x + bias[label], deltas[4 * (label + 1) : 4 * (label + 2)])


def test_one_regressor_for_all_classes_stays_one() -> None:
    layer = torch.nn.Linear(5, 4)
    weight, bias = regressor_from_torchvision(layer.weight, layer.bias)
    assert weight.shape == (1, 4, 5)
    assert torch.equal(weight[0], layer.weight)
    assert torch.equal(bias[0], layer.bias)
