"""What a method is: a choice of the five parts (activation, loss, sampler, classifier, start) and a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from gol_decouple.errors import unknown

NEAREST_MEAN = "ncm"
# Classifiers that change what stage one trained.
OF_STAGE_ONE = frozenset({"lws", "disalign"})

SETTINGS = (
    *("start", "lr", "epochs", "schedule", "views"),
    *("batch_size", "momentum", "weight_decay", "clip_norm", "precision"),
)


_PARAMS = ("activation_params", "loss_params", "classifier_params", "posthoc_params")


@dataclass(frozen=True)
class Method:
    """One way to retrain a classifier; `settings` are what a user may change, the parts are what the name means.

    Attributes:
        start: "stage_one", the Softmax classifier's weights; "fresh", small weights at the activation's prior point; or
            "paper", all weights 0.001 and all biases -2, as GOL's detectors start.
        views: "clean", or "random": any of a sample's cached views, drawn anew each epoch.
        precision: dtype of the matrix products; weights, loss and momentum are float32.
        clip_norm: largest norm of a step's gradient, over weight and bias together; None leaves it as it is.
        posthoc: the correction of the logits that is the method; then nothing is trained.
        temperature: "val" fits a temperature of the scores on val; "none" leaves them as they are.
        background: whether it is for features with background samples only.
        activation_params, loss_params, classifier_params, posthoc_params: parameters of the parts, with their values.
    """

    name: str
    activation: str
    paper: str
    start: str
    lr: float
    epochs: int
    loss: str = "cross_entropy"
    sampler: str = "random"
    classifier: str = "linear"
    views: str = "random"
    schedule: str = "constant"
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float | None = None
    precision: str = "float32"
    temperature: str = "none"
    posthoc: str | None = None
    background: bool = False
    activation_params: Mapping[str, Any] = field(default_factory=dict)
    loss_params: Mapping[str, Any] = field(default_factory=dict)
    classifier_params: Mapping[str, Any] = field(default_factory=dict)
    posthoc_params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_trained(self) -> bool:
        """Whether it takes steps, and is not a closed form."""
        return self.posthoc is None and self.classifier != NEAREST_MEAN

    @property
    def settings(self) -> dict[str, Any]:
        """Everything a user may change, with its value."""
        own = {name: getattr(self, name) for name in SETTINGS} if self.is_trained else {}
        if self.classifier in OF_STAGE_ONE:
            own.pop("start", None)
        own["temperature"] = self.temperature
        return own | {name: value for group in _PARAMS for name, value in getattr(self, group).items()}

    def with_settings(self, **changes: Any) -> Method:
        """This method with some settings changed; None leaves a setting as it is.

        Raises:
            InputError: the method has no such setting.
        """
        changes = {name: value for name, value in changes.items() if value is not None}
        for name in changes:
            if name not in self.settings:
                raise unknown(f"setting of method {self.name!r}", name, self.settings)
        params: dict[str, Any] = {
            group: {name: changes.pop(name, value) for name, value in getattr(self, group).items()} for group in _PARAMS
        }
        return replace(self, **changes, **params)

    def as_dict(self) -> dict[str, Any]:
        """What it is, as plain values: every field but those at their default, to which new ones can be added."""
        defaults: dict[str, Any] = {field.name: field.default for field in fields(self)}
        defaults |= {group: {} for group in _PARAMS[1:]}  # of an activation they have been told from the first
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}
