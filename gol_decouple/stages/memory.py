"""How much memory a training of stage two takes: told before it, and bounded by training fewer classifiers at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from gol_decouple.methods import Method
from gol_decouple.progress import Progress
from gol_decouple.runtime import size_text
from gol_decouple.stages.evaluation import ROWS_AT_ONCE
from gol_decouple.stages.feed import TrainRows
from gol_decouple.stages.jobs import Job, loss_of, makes
from gol_decouple.stages.together import stackable

_FLOAT = 4
# What a loss makes of the logits of a batch, beside them; bytes of a score in an evaluation, in its several forms.
_COPIES_OF_LOGITS, _BYTES_A_SCORE = 4, 100
# Of a sample, its label, its place, its turn in an epoch, and what that is made of.
_BYTES_A_SAMPLE = 88
# Of what is free beside the features, what classifiers may take.
_SHARE = 0.75
_LOWER = "stage2.memory_gb or stage2.batch_size, or ask for fewer methods, seeds or values at once"


@dataclass(frozen=True)
class Size:
    """Bytes of a classifier: `kept` from start to end, `in_step`, while it takes one, and `evaluated`, while it is."""

    kept: int
    in_step: int
    evaluated: int


class Memory:
    """Divides classifiers among trainings by the memory there is, and tells how much they take.

    Args:
        progress: where the most that any training takes is told, before it.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told = 0

    def portions(self, rows: TrainRows, jobs: Sequence[Job], free: int) -> list[list[Job]]:
        """The jobs in as few portions as fit; what is trained as one stack is not divided, so each is what it would be.

        Args:
            free: bytes, before the rows were opened.
        """
        of_rows = rows.num_bytes + rows.num_samples * _BYTES_A_SAMPLE
        budget = int(_SHARE * (free - of_rows))
        sizes: dict[str, Size] = {}
        portions: list[list[Job]] = []
        taken: list[int] = []
        in_step = 0
        for stack in stackable(rows, jobs):
            of_stack = [_size(rows, job.method, sizes) for job in stack]
            kept = sum(size.kept for size in of_stack)
            in_step = max(in_step, sum(size.in_step for size in of_stack), of_stack[0].evaluated)
            if not portions or taken[-1] + kept > budget:
                portions.append([])
                taken.append(0)
            portions[-1] += stack
            taken[-1] += kept
        most = max(taken, default=0)
        self._tell(of_rows, most, in_step, len(portions[taken.index(most)]) if portions else 0, free)
        if len(portions) > 1:
            told = f"{len(jobs):,} classifiers do not fit in memory together"
            self._progress.say(f"{told}: they are trained in {len(portions)} groups, one after another")
        return portions

    def _tell(self, of_rows: int, kept: int, in_step: int, count: int, free: int) -> None:
        total = of_rows + kept + in_step
        if total <= self._told:
            return
        self._told = total
        what = "1 classifier" if count == 1 else f"{count:,} classifiers"
        parts = f"features {size_text(of_rows)}, {what} {size_text(kept)}, a step {size_text(in_step)}"
        self._progress.say(f"memory: {parts}; {size_text(free)} free")
        if total > free:
            # What the system says is free is no hard limit: caches and other programs may give way.
            self._progress.warn(
                f"this takes {size_text(total)} of memory, and {size_text(free)} is free: lower {_LOWER}"
            )


def size_of(rows: TrainRows, method: Method) -> Size:
    """Of one of a method's classifiers: weights and momentum, twice, and logits; gradient and batch; and scores."""
    columns = loss_of(method, rows.facts).num_columns(len(rows.class_counts))
    start = (torch.empty(1, columns, rows.feature_size, device="meta"), torch.empty(1, columns, device="meta"))
    made = makes(method)(*start)
    trained, fixed = made.initial.shape[1], sum(part.numel() for part in made.fixed)
    batch = min(method.batch_size, rows.num_samples)
    worked_out = trained + columns * rows.feature_size  # the gradient, and weights of which something else is trained
    in_step = _FLOAT * (worked_out + batch * (columns * _COPIES_OF_LOGITS + 2 * rows.feature_size))
    in_evaluation = ROWS_AT_ONCE * (columns * _BYTES_A_SCORE + 2 * _FLOAT * rows.feature_size)
    # Beside what is being trained, as the last epoch left it: what is written if a signal stops the training.
    return Size(_FLOAT * (4 * trained + fixed + batch * columns), in_step, in_evaluation)


def _size(rows: TrainRows, method: Method, known: dict[str, Size]) -> Size:
    """`size_of`, worked out once for methods whose classifiers are equally large."""
    key = repr(replace(method, lr=1.0))
    if key not in known:
        known[key] = size_of(rows, method)
    return known[key]
