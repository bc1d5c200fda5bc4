"""Training the classifiers of a finished run once more, each beside the same others as then.

With more than one thread or in bfloat16, the classifiers that are trained as one stack can decide how last bits are
rounded; what else is trained in the same pass does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gol_decouple import runs
from gol_decouple.features import open_features, verify
from gol_decouple.files import read_json, write_json
from gol_decouple.progress import Progress
from gol_decouple.stages.classifier import Finals, open_work
from gol_decouple.stages.jobs import Job
from gol_decouple.stages.recorded import Manifest, inputs_of, job_of, memory_of, samples_of, stack_of
from gol_decouple.stages.saved import Saved
from gol_decouple.stages.states import read_state
from gol_decouple.targets import Target


def repeat_classifiers(
    recorded: Mapping[Path, Manifest], target: Target, out: Path, device: str, progress: Progress
) -> dict[Path, Path | None]:
    """Train classifiers as their manifests tell, in `out`; what was interrupted continues.

    Args:
        recorded: the manifests, by the folders of what they are of.
        target: the features to train on, and the folder of the run with the backbone.

    Returns:
        The folder of each, and that of what it is now; None: it could not be trained, which is told.
    """
    groups: dict[str, dict[Path, Manifest]] = {}
    for folder, manifest in recorded.items():
        groups.setdefault(_pass_of(manifest), {})[folder] = manifest
    found: dict[Path, Path | None] = {}
    for group in groups.values():
        found |= _repeat_pass(group, target, out, device, progress)
    return {folder: found[folder] for folder in recorded}


@dataclass
class _Stack:
    """Classifiers that were trained as one, and those of them that are to be repeated."""

    members: list[Job]
    wanted: list[Job]

    def place(self, job: Job) -> int:
        """Which of its members a job is."""
        return [(one.method, one.seed) for one in self.members].index((job.method, job.seed))

    @property
    def recipe(self) -> str:
        """What it has in common with others that it would be trained as one with."""
        return repr(replace(self.members[0].method, lr=1.0, start="fresh"))


def _repeat_pass(
    recorded: Mapping[Path, Manifest], target: Target, out: Path, device: str, progress: Progress
) -> dict[Path, Path | None]:
    """The same of classifiers that can be trained in the same passes over the features."""
    features, manifests = open_features(target.features), list(recorded.values())
    jobs = {folder: job_of(manifest) for folder, manifest in recorded.items()}
    annotations = inputs_of(manifests[0]).get("annotations")
    file = None if annotations is None else Path(annotations["path"])
    sets, grid = [[job.method] for job in jobs.values()], [memory_of(manifests, features)]
    work = open_work(target, sets, grid, device, progress, file)
    verify(work.features, progress)
    work = replace(work, target=replace(target, folder=out))
    samples, finals = samples_of(manifests[0], features), Finals(work)
    for stacks in _rounds(recorded):
        # Those that nobody asks for, as other points of a grid, are put where a run keeps what it chose from.
        partly = [stack for stack in stacks if len(stack.wanted) < len(stack.members)]
        aside = Saved(work, runs.CANDIDATES, samples, finals.add) if partly else None
        saved = Saved(work, runs.STAGE2, samples, finals.add, aside)
        if aside is not None:
            _train(aside, [stack.members for stack in partly if any(map(saved.is_left, stack.wanted))])
            finals.finish()
        for error in _train(saved, [stack.wanted for stack in stacks if stack not in partly]):
            progress.warn(error)
        for error in _train(saved, [[job] for stack in partly for job in stack.wanted]):
            progress.warn(error)
        finals.finish()
    found: dict[Path, Path | None] = {}
    for folder, job in jobs.items():
        found[folder] = own = saved.folder(job) if saved.is_finished(job) else None
        if own is not None and (folder / runs.CHOICE).is_file():
            write_json(own / runs.CHOICE, read_json(folder / runs.CHOICE))
    return found


def _train(saved: Saved, stacks: Sequence[Sequence[Job]]) -> list[str]:
    """Train stacks, those of which a part is ahead from their start; returns what failed, in words."""
    whole = [job for stack in stacks for job in stack if _is_whole(saved, stack)]
    broken = [job for stack in stacks for job in stack if not _is_whole(saved, stack)]
    errors = [*saved.run(whole), *(saved.run(broken, overwrite=True) if broken else [])]
    return [error.message for error in errors]


def _is_whole(saved: Saved, stack: Sequence[Job]) -> bool:
    """Whether all are equally far."""
    return len({_epochs(saved, job) for job in stack}) == 1


def _epochs(saved: Saved, job: Job) -> int:
    """Epochs that are saved; of what is finished, all."""
    if not saved.is_left(job):
        return job.method.epochs
    try:
        return len(read_state(saved.folder(job))[0].history)
    except (ValueError, TypeError):
        return 0


def _rounds(recorded: Mapping[Path, Manifest]) -> list[list[_Stack]]:
    """Stacks that can be trained in the same passes without becoming others than they were."""
    started = {manifest.get("started_from") for manifest in recorded.values()}
    first = {folder: manifest for folder, manifest in recorded.items() if folder.name in started}
    if 0 < len(first) < len(recorded):
        rest = {folder: manifest for folder, manifest in recorded.items() if folder not in first}
        return [*_rounds(first), *_rounds(rest)]
    stacks: dict[str, _Stack] = {}
    for manifest in recorded.values():
        members = stack_of(manifest)
        key = repr([(job.method, job.seed) for job in members])
        stacks.setdefault(key, _Stack(members, [])).wanted.append(job_of(manifest))
    rounds: list[list[_Stack]] = []
    for stack in stacks.values():
        stack.wanted.sort(key=stack.place)
        fitting = [one for one in rounds if all(stack.recipe != other.recipe for other in one)]
        if fitting:
            fitting[0].append(stack)
        else:
            rounds.append([stack])
    return rounds


def _pass_of(manifest: Manifest) -> str:
    """Tells those apart that cannot be trained in one pass."""
    own = [manifest.get(name) for name in ("trained_on", "shuffled_rows")]
    return json.dumps([*own, manifest.get("config", {}).get("stage2"), inputs_of(manifest).get("annotations")])
