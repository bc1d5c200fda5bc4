"""Training of the Softmax model: the loop, its checkpoints and its log."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from gol_decouple import runtime
from gol_decouple.data import Dataset
from gol_decouple.data.annotated import AnnotatedDataset
from gol_decouple.data.loading import Pass
from gol_decouple.distributed import ALONE, World
from gol_decouple.errors import InputError
from gol_decouple.progress import Bar, Progress
from gol_decouple.schedules import lr_factor
from gol_decouple.settings import Config, Stage1Config
from gol_decouple.stages.averaging import MovingAverage
from gol_decouple.stages.parallel import accumulating, check, parallel
from gol_decouple.stages.sessions import begin_session
from gol_decouple.stages.tasks import task_of
from gol_decouple.stages.training_log import BEFORE, TrainingLog
from gol_decouple.stages.training_state import Done, State, Trained, load_state, save_state
from gol_decouple.stopping import Stop, deferred

M = TypeVar("M", bound=nn.Module)

NOISE = 4  # a random stream; those of the images' order and augmentation are in data.loading
SAVE_EVERY = 600.0  # seconds within an epoch; nothing warns of a SIGKILL


class Trainer(Generic[M]):
    """Trains a model on a dataset's train split, epoch by epoch, resuming from the last checkpoint in `folder`.

    Every random draw is keyed by seed, epoch and position, so an interrupted run continues as if it had not been, and
    how many processes share a batch changes nothing but the order of sums, and what BatchNorm and mixup see together.
    A checkpoint is saved after every epoch, every SAVE_EVERY seconds within one, and before a SIGTERM or SIGINT ends
    the training after a step: in several processes the same one of each, whichever of them got the signal.

    Raises:
        InputError: a setting that this machine cannot follow.
    """

    def __init__(
        self,
        model: M,
        dataset: Dataset | AnnotatedDataset,
        config: Config,
        folder: Path,
        world: World = ALONE,
        device: torch.device | None = None,
    ) -> None:
        self._settings: Stage1Config = config.stage1
        self._seed = config.seed
        self._world = world
        self.device = runtime.select_device(config.device) if device is None else device
        check(config.stage1, self.device)
        self._model = model.to(self.device)
        self._network: nn.Module = self._model  # what trains it: in several processes, one that averages gradients
        self._folder = folder
        self.task = task_of(dataset, config, world, self.device)
        self._keys = self.task.keys
        self._optimizer = torch.optim.SGD(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=config.stage1.scaled_lr,
            momentum=config.stage1.momentum,
            weight_decay=config.stage1.weight_decay,
        )
        precision = runtime.autocast_dtype(self.device, config.stage1.precision)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=precision is torch.float16)
        self._average = MovingAverage(model, config.stage1.ema) if config.stage1.ema else None
        self._trained = Trained(self._model, self._optimizer, self._scaler, self._average)
        self._done = Done()
        self._stop = Stop()  # until the training begins, nothing waits for a step
        self._started = self._saved = 0.0  # when, by the monotonic clock: this epoch, the last checkpoint
        self._log = TrainingLog(folder, config.stage1.tensorboard, world.is_main, self.task.columns)

    def run(self, progress: Progress) -> None:
        """Train to the last epoch; the result is `model`, the same in all processes.

        Raises:
            InputError: loss or weights are no longer finite, or there are checkpoints that cannot be used.
        """
        self._resume(progress)
        first, images = self._done.epochs_done, self._images_left()
        if images:
            self._network = parallel(self._model, self._world, self.device, self._settings.sync_batchnorm)
            here = self._done.epochs_done, self._done.steps_done
            self._world.on_main(lambda: begin_session(self._folder, *here, self.device))
            self._saved = time.monotonic()
            with deferred() as self._stop, progress.bar("stage one", total=sum(images), unit="images") as bar:
                for epoch in range(first, first + len(images)):
                    row = self._logged_epoch(epoch, epoch + 1 == first + len(images), bar)
                    self._log.add(row)
                    self._tell(row, progress)
                    self._done = Done(epoch + 1)
                    if self._world.is_main:
                        self._save()
                        self._log.write()
            self._network = self._model  # lets go of the connection between the processes
        self._world.share_model(self.model)

    @property
    def model(self) -> M:
        """The model as trained so far: its last weights, or their moving average if `stage1.ema` asks for that."""
        return self._model if self._average is None else self._average.model

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, those before an interruption included."""
        return self._log.seconds

    def _images_left(self) -> list[int]:
        """How many images are left of each epoch, from the present one to the last, or to `stage1.max_steps`."""
        images = []
        for epoch in range(self._done.epochs_done, self._settings.epochs):
            self._keys.epoch = epoch
            if not self._keys.images:
                break
            images.append(self._keys.images)
        if images:
            images[0] -= min(images[0], self._done.steps_done * self._settings.batch_size)
        return images

    def _logged_epoch(self, epoch: int, is_last: bool, bar: Bar) -> dict[str, Any]:
        self._started = time.monotonic() - self._done.seconds
        parts = self._epoch(epoch, bar)
        measured = self._measured(epoch, is_last)
        seconds = time.monotonic() - self._started
        return {
            "epoch": epoch + 1,
            "lr": self._lr(epoch, 0),
            "train_loss": sum(parts.values()),
            **{name: parts[name] for name in self.task.columns if name in parts},
            **measured,
            "images_per_second": self._keys.images / seconds,
            "seconds": seconds,
        }

    def _epoch(self, epoch: int, bar: Bar) -> dict[str, float]:
        """One epoch, or what is left of it; returns the parts of its loss, means over the images."""
        self._network.train()
        self._keys.epoch, self._keys.step = epoch, self._done.steps_done
        totals = self._done.totals
        step: dict[str, torch.Tensor] = {}
        for part, batch in zip(self._keys.passes(), self.task.batches, strict=True):
            if part.number == 0:
                self._optimizer.zero_grad()
                step = {}
            for name, loss in self._pass(batch, part, epoch).items():
                step[name] = step.get(name, 0.0) + loss
            if not part.is_last:
                continue
            self._step(epoch, part.step)
            values, stopped = self._agreed(step)
            value = sum(values.values())
            if not math.isfinite(value):
                raise self._diverged(epoch, part.step, f"the loss is {value}")
            totals |= {name: totals.get(name, 0.0) + values[name] * part.step_images for name in values}
            self._done.steps_done = part.step + 1
            bar.advance(part.step_images, f"epoch {epoch + 1}/{self._settings.epochs}, loss {value:.3f}")
            self._keep(stopped)
        self._check_weights()
        return {name: total / self._keys.images for name, total in totals.items()}

    def _agreed(self, step: dict[str, torch.Tensor]) -> tuple[dict[str, float], bool]:
        """A step's losses, summed over the processes, and whether one of them was asked to stop."""
        asked = torch.full((), float(self._stop.requested), device=self.device)
        *values, stopped = self._world.total(torch.stack([*step.values(), asked])).tolist()
        return dict(zip(step, values, strict=True)), bool(stopped)

    def _keep(self, stopped: bool) -> None:
        """Save what is done of an epoch, if it ends here or the last checkpoint is old; then a signal may end it."""
        now = time.monotonic()
        self._done.seconds = now - self._started
        due = self._world.is_main and now - self._saved > SAVE_EVERY
        if stopped or due:
            self._check_weights()
        if stopped:
            self._world.on_main(self._save)  # the others wait: one that ends may have the main one killed
            self._stop.deliver()
        elif due:
            self._save()

    def _tell(self, row: dict[str, Any], progress: Progress) -> None:
        """An epoch's row, and to people where the model was measured in it."""
        figures = {name: row.get(name) for name in ("lr", "train_loss", *self.task.columns)}
        is_news = any(value is not None for name, value in figures.items() if name not in BEFORE)
        progress.epoch("stage one", row["epoch"], self._settings.epochs, figures, is_news)

    def _measured(self, epoch: int, is_last: bool) -> dict[str, float | None]:
        while (measured := self.task.measured(self.model, epoch, is_last, self._stop)) is None:
            self._keep(stopped=True)
        return measured

    def _pass(self, batch: Any, part: Pass, epoch: int) -> dict[str, torch.Tensor]:
        """Add a pass's gradient to the others; returns its share of the step's losses."""
        share = part.images / part.step_images
        # The processes' gradients are averaged once, with the step's last pass.
        with nullcontext() if part.is_last else accumulating(self._network):
            # The first pass of the main process draws as the only one does.
            own = (self._world.rank, part.number)
            at = (epoch, part.step, *(own if any(own) else ()))
            torch.manual_seed(runtime.stream_seed(self._seed, NOISE, *at))  # of all that the model draws itself
            losses = self.task.losses(self._network, batch, *at)
            loss = torch.stack(list(losses.values())).sum()
            torch.autograd.backward(self._scaler.scale(loss * (share * self._world.size)))
        return {name: one.detach() * share for name, one in losses.items()}

    def _step(self, epoch: int, step: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr(epoch, step)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update(self._model)

    def _check_weights(self) -> None:
        if not all(tensor.isfinite().all() for tensor in self._model.state_dict().values()):
            what = "weights, or BatchNorm statistics, are not finite"
            raise self._diverged(self._done.epochs_done, self._done.steps_done - 1, what)

    def _diverged(self, epoch: int, step: int, sign: str) -> InputError:
        lower = f"{self._settings.lr / 10:g}"
        where = f"in epoch {epoch + 1}, step {step + 1}, at learning rate {self._lr(epoch, step):g}"
        return InputError(f"stage one diverged {where}: {sign}", f"try --set stage1.lr={lower} --overwrite")

    def _lr(self, epoch: int, step: int) -> float:
        settings = self._settings
        progress = (epoch + step / len(self._keys)) / settings.epochs
        written_for = settings.recipe_epochs or settings.epochs
        milestones = [milestone / written_for for milestone in settings.milestones]
        warmup = settings.warmup_epochs / written_for
        return settings.scaled_lr * lr_factor(settings.schedule, progress, milestones, settings.gamma, warmup)

    def _save(self) -> None:
        rest = {"log": self._log.rows, "data_sha256": self.task.data_sha256}
        save_state(self._folder, self._done.as_dict() | self._trained.state_dict() | rest)
        self._saved = time.monotonic()

    def _resume(self, progress: Progress) -> None:
        """Take up the newest checkpoint."""
        self._done = Done()
        state = load_state(self._folder, self.task.data_sha256, progress, self._take)
        done = f"epoch {self._done.epochs_done}", f"step {self._done.steps_done}"
        self._world.check_same("the last checkpoint", state and ", ".join(done))
        if state is None:
            return
        if self._world.is_main:
            self._log.write()  # a process that was killed may have written the checkpoint only
        self._keys.epoch = self._done.epochs_done
        within = f", {done[1]} of {len(self._keys)} of the next" if self._done.steps_done else ""
        progress.say(f"continuing stage one after {done[0]} of {self._settings.epochs}{within}")

    def _take(self, state: State) -> None:
        self._trained.load_state_dict(state)
        self._log.take(state["log"])
        self._done = Done(*(state[part.name] for part in fields(Done)))
