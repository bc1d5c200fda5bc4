"""What features are made of, as files tell it, and how two differ: so that none is taken for another's.

Facts are plain values, parts by name: those of a features file's origin (backbone, dataset, transform), its classes,
and how it is laid out (see `features.plan.facts`). Manifests keep them beside the fingerprint of their features.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gol_decouple import runs
from gol_decouple.errors import InputError, few
from gol_decouple.files import read_json

Facts = Mapping[str, Any]

# Of which features the results in a folder are that is no run: of a file made elsewhere, or of a cascade.
RECORD = "features.json"
# Digits of a checksum that are shown.
DIGITS = 12
_CHECKSUMS = ("sha256", "fingerprint")
_LISTED = 6
# Parts with an entry for each class.
_BY_LABEL = {"classes": list, "frequency": str}


def differences(before: Facts, now: Facts) -> list[str]:
    """The fields that differ, with both values: "backbone.name: resnet32 -> timm:resnet18".

    What `before` does not tell of is passed over: older files tell less.
    """
    found: list[str] = []
    for part, value in before.items():
        other = now.get(part)
        if part in _BY_LABEL and type(value) is type(other) is _BY_LABEL[part]:
            found += _of_classes(part, value, other)
        else:
            found += _of_values(part, _plain(value), _plain(other))
    return found


def told(before: Facts, now: Facts) -> str:
    """The differences in one line; where there is none to name, that the features' own values differ."""
    named = differences(_without_checksum(before), now)
    if named:
        return few(named, _LISTED)
    prints = [str(facts.get("fingerprint", "unknown"))[:DIGITS] for facts in (before, now)]
    return f"fingerprint: {prints[0]} -> {prints[1]}, though all that is told of them is alike"


def own_features(folder: Path) -> dict[str, Any]:
    """The fingerprint and the facts of the features that the results in a run's folder are of; none if none is told."""
    for name, key in ((runs.MANIFEST, "features"), (RECORD, None)):
        if (folder / name).is_file():
            tree = read_json(folder / name, f"remove {folder / name} and repeat the command that made it")
            found = tree if key is None else tree.get(key)
            return found if isinstance(found, dict) else {}
    return {}


def is_of(own: Facts, manifest: Mapping[str, Any]) -> bool:
    """Whether the classifier of a manifest was trained on the features that are a run's own; also if nothing tells."""
    theirs = _features_of(manifest).get("fingerprint")
    return None in (theirs, own.get("fingerprint")) or theirs == own["fingerprint"]


def foreign_classifier(folder: Path, run: Path, own: Facts, manifest: Mapping[str, Any]) -> InputError:
    """What to tell of a classifier in a run that was trained on other features than the run's."""
    return InputError(
        f"{folder} was trained on other features than those of {run}: {told(own, _features_of(manifest))}",
        f"remove {folder}; gol-decouple stage2 {run} --method {manifest.get('method')} trains one on the run's own",
    )


def _features_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    found = manifest.get("features")
    return found if isinstance(found, dict) else {}


def _without_checksum(facts: Facts) -> Facts:
    """What is known of the features before they are."""
    return {name: value for name, value in facts.items() if name not in ("fingerprint", "checked", "path")}


def _of_classes(part: str, before: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    if len(before) != len(now):
        yield f"number of {part}: {len(before)} -> {len(now)}"
        return
    differ = [label for label, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1]]
    if differ:
        what = part
        if part == "classes":
            what = "class order" if sorted(before) == sorted(now) else "class names"
        rest = f", and {len(differ) - 1:,} more" if len(differ) > 1 else ""
        yield f"{what}: class {differ[0]} {before[differ[0]]!r} -> {now[differ[0]]!r}{rest}"


def _of_values(name: str, before: Any, now: Any) -> Iterator[str]:
    """The differing fields of a part, and of the parts in it."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _of_values(f"{name}.{key}", before.get(key), now.get(key))
    elif before != now:
        yield f"{name}: {_shown(name, before)} -> {_shown(name, now)}"


def _shown(name: str, value: Any) -> str:
    if value is None or value == {}:
        return "not told"
    if name.endswith(_CHECKSUMS):
        return str(value)[:DIGITS]
    if isinstance(value, dict) and "name" in value:
        return str(value["name"])
    return str(value)[:100]


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value))
