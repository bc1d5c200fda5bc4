"""Which settings of a method are worth trying."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product
from typing import Any

from gol_decouple.methods.record import Method

# Times the method's own learning rate.
_LR_FACTORS = (1.0, 3.0, 1 / 3, 10.0, 0.1)
# In the order in which they are tried. tau_norm's are the grid of its authors' code, 0 to 2 in steps of 0.1, thinned.
_VALUES: dict[str, dict[str, tuple[Any, ...]]] = {
    "tau_norm": {"tau": (1.0, 0.5, 0.7, 0.3, 1.5, 0.1, 2.0, 0.0)},
    "logit_adjustment": {"tau": (1.0, 0.5, 1.5, 0.75, 1.25, 0.25, 2.0)},
    "logit_adjusted": {"tau": (1.0, 0.5, 1.5)},
    "iif": {"variant": ("raw", "smooth", "rel", "normit", "gombit", "base2", "base10")},
    "ncm": {"space": ("centred_l2", "l2", "raw")},
}


def points(method: Method, settled: Collection[str] = ()) -> list[Method]:
    """The method with its learning rate or its parameters changed, in the order in which to try; itself comes first.

    Args:
        settled: names of settings that are not to be changed.
    """
    values = dict(_VALUES.get(method.name, {}))
    if method.is_trained:
        values["lr"] = tuple(float(f"{factor * method.lr:.2g}") for factor in _LR_FACTORS)
    values = {name: some for name, some in values.items() if name not in settled}
    places = sorted(product(*(range(len(some)) for some in values.values())), key=sum)
    found = [
        method.with_settings(**{name: some[at] for (name, some), at in zip(values.items(), place, strict=True)})
        for place in places
    ]
    return [method, *(near for near in found if near != method)]
