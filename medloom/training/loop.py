"""One training loop for every generator. It knows only the Task protocol and runs on Hugging Face Accelerate."""

import math
import shutil
import signal
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.core.files import atomic_folder, discard_folder, explained_content, make_folder, write_json
from medloom.core.progress import progress, say
from medloom.core.stopping import Stopped, StopRequest, noting_stops
from medloom.core.types import BatchType, Phase, Task
from medloom.networks.ema import ExponentialMovingAverage
from medloom.training.devices import kept_memory
from medloom.training.options import LoopOptions, learning_rate_factor
from medloom.training.state import COUNTERS, PREFIX, Trainable, disk_needed, load_state, save_state, states
from medloom.training.trackers import Trackers

if TYPE_CHECKING:
    from accelerate import Accelerator

EMA_PREFIX = "ema."
Item = TypeVar("Item")


def one_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The items of an endless iterator in order; a thread makes each while the one before it is in use.

    The content of a step's batch must not depend on the step before it. An error in making an item is raised when the
    item is taken.
    """
    with ThreadPoolExecutor(1, "batches") as pool:
        coming = pool.submit(next, items)
        while True:
            item = coming.result()
            coming = pool.submit(next, items)
            yield item


@dataclass
class _Prepared(Generic[BatchType]):
    phase: Phase[BatchType]
    module: nn.Module
    trainable: Trainable


class Loop(Generic[BatchType]):
    """Trains a Task in a run folder; see `train`."""

    def __init__(self, task: Task[BatchType], options: LoopOptions, run: Path, accelerator: "Accelerator") -> None:
        self.task, self.options, self.run_folder, self.accelerator = task, options, run, accelerator
        self.main = accelerator.is_main_process
        self.prepared: list[_Prepared[BatchType]] = []
        for phase in task.phases():
            optimizer = torch.optim.AdamW(
                parameter_groups(phase),
                lr=phase.learning_rate,
                betas=phase.betas,
                weight_decay=phase.weight_decay,
                fused=True,
            )
            module = torch.compile(phase.module) if options.compile else phase.module
            wrapped, prepared = accelerator.prepare(module, optimizer)
            self.prepared.append(_Prepared(phase, wrapped, Trainable(phase.name, phase.module, prepared.optimizer)))
        averaged = task.ema()
        self.ema = ExponentialMovingAverage(averaged, options.ema) if averaged is not None and options.ema else None
        self.best: list[tuple[float, int]] = []
        self.step = 0
        self.stop = StopRequest()
        # Whether the validation of the last checkpoint's step was interrupted, so that it comes first.
        self.unvalidated = False
        # The first step with a gradient, and with a loss, that is not finite; on the device, since to look at it takes
        # time.
        self.bad_step = torch.full((), torch.inf, device=accelerator.device)
        self.bad_loss = self.bad_step.clone()
        if found := states(run / "state"):
            counters, tensors = load_state(found[-1], [entry.trainable for entry in self.prepared])
            if self.ema is not None:
                names = {name: tensor for name, tensor in tensors.items() if name.startswith(EMA_PREFIX)}
                self.ema.load({name.removeprefix(EMA_PREFIX): tensor for name, tensor in names.items()})
            task.load_state({name: t for name, t in tensors.items() if not name.startswith(EMA_PREFIX)})
            with explained_content(found[-1] / COUNTERS):
                if accelerator.scaler is not None and counters["scaler"]:
                    accelerator.scaler.load_state_dict(counters["scaler"])
                self.best = [(loss, step) for loss, step in counters["best"]]
                self.step = int(counters["step"])
                self.unvalidated = bool(counters["unvalidated"])

    def run(self) -> None:
        """Train to the last step, or until the program is asked to end.

        Raises:
            Stopped: the program was asked to end; the state after the last step is written.
        """
        options, accelerator = self.options, self.accelerator
        if self.main:
            self._require_disk()
        accelerator.wait_for_everyone()
        trackers = Trackers(self.run_folder / "logs", self.step, options.wandb, vars(options)) if self.main else None
        batches = self.task.batches(self.step, accelerator.process_index, accelerator.num_processes)
        # On a CPU the thread would take a core from the networks: with 2 cores, steps took 12 % longer with it.
        ahead = self.task.prefetches and accelerator.device.type != "cpu"
        batches = one_ahead(batches) if ahead else (each for each in batches)
        if self.main and self.step:
            say(f"continuing from step {self.step} of {options.steps}")
        try:
            with (
                kept_memory() if accelerator.device.type == "cpu" else nullcontext(),
                progress("training", options.steps, "steps", self.step, self.main) as advance,
                noting_stops() as self.stop,
            ):
                if self.unvalidated:
                    self._validate_and_save(trackers)
                started = time.perf_counter()
                while self.step < options.steps:
                    values = self._one_step(next(batches))
                    self._after_step(values, trackers, started)
                    advance(1, ", ".join(f"{n} {v:.4f}" for n, v in values.items() if "/" not in n))
                    self._stop_if_asked()
                    started = time.perf_counter()
                if self.main and not (self.run_folder / "model").is_dir():
                    self._save_model()
        finally:
            batches.close()
            if trackers is not None:
                trackers.close()

    def _require_disk(self) -> None:
        """Report how much disk the checkpoints will take, and refuse to start if it is not free."""
        make_folder(self.run_folder)
        needed = disk_needed([e.trainable for e in self.prepared], self.ema is not None, self.options.keep_best)
        # While one state replaces the other, both hold the task's own tensors (e.g. a pool of images).
        needed += 2 * sum(tensor.numel() * tensor.element_size() for tensor in self.task.state().values())
        free = shutil.disk_usage(self.run_folder).free
        say(f"checkpoints take up to {needed / 1e9:.2f} GB in {self.run_folder}; {free / 1e9:.1f} GB are free")
        if needed > free and not self.step:
            raise UserError(
                f"checkpoints need {needed / 1e9:.2f} GB under {self.run_folder}, and {free / 1e9:.2f} GB are free;"
                " free some space, or choose another --out."
            )

    def _one_step(self, micro_batches: Sequence[BatchType]) -> dict[str, float]:
        """One optimiser step of every phase that is due; values to log, if this step is logged."""
        logged: dict[str, Tensor] = {}
        factor = learning_rate_factor(self.options, self.step)
        for entry in self.prepared:
            if not (self.step + 1) % entry.phase.every:
                logged |= self._phase_step(entry, micro_batches, factor)
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.step)
        self.task.after_step(self.step)
        due = not self.step % self.options.log_every or self.step == self.options.steps
        if not due or not logged:
            return {}
        names = sorted(logged)
        values = torch.stack([logged[name].to(self.accelerator.device) for name in names])
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, reduction="mean")
        return dict(zip(names, values.tolist(), strict=True))

    def _phase_step(
        self, entry: _Prepared[BatchType], micro_batches: Sequence[BatchType], factor: float
    ) -> dict[str, Tensor]:
        optimizer, scaler = entry.trainable.optimizer, self.accelerator.scaler
        for group in optimizer.param_groups:
            group["lr"] = entry.phase.learning_rate * group["factor"] * factor
        parts = len(micro_batches)
        totals: dict[str, Tensor] = {}
        for number, batch in enumerate(micro_batches, 1):
            with nullcontext() if number == parts else self.accelerator.no_sync(entry.module):
                with self.accelerator.autocast():
                    loss, values = entry.phase.loss(entry.module, batch)
                self.accelerator.backward(loss / parts)
            for name, value in {entry.phase.name: loss, **values}.items():
                totals[name] = totals.get(name, 0) + value.detach().float() / parts
        parameters = [p for p in entry.trainable.module.parameters() if p.requires_grad]
        norm = self.accelerator.clip_grad_norm_(parameters, self.options.clip)
        # fp16 overflows now and then by design; its scaler skips such steps.
        if scaler is None:
            # The norm is the same in all processes, which so end together.
            self.bad_step = self._first_bad(self.bad_step, norm)
            self.bad_loss = self._first_bad(self.bad_loss, totals[entry.phase.name])
            if self.bad_step.device.type == "cpu":
                # There it costs nothing to look.
                self._require_finite()
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad(set_to_none=True)
        totals[f"{entry.phase.name}/gradient norm"] = norm.detach().float()
        return totals

    def _first_bad(self, known: Tensor, value: Tensor) -> Tensor:
        """The known first step of a value that is not finite, or the present one."""
        bad = torch.where(torch.isfinite(value.detach()), torch.inf, self.step + 1.0)
        return torch.minimum(known, bad.to(known.device))

    def _after_step(self, values: Mapping[str, float], trackers: Trackers | None, started: float) -> None:
        options = self.options
        finished = self.step == options.steps
        validates = self.step % options.validate_every == 0 or finished
        saves = self.step % options.checkpoint_every == 0 or validates
        if values or saves:
            self._require_finite()
        if trackers is not None and values:
            trackers.log(self.step, values)
            speed = options.batch / (time.perf_counter() - started)
            trackers.log_speed(self.step, {"images per second": speed})
        if validates:
            self._validate_and_save(trackers)
        elif saves:
            self._save({})

    def _validate_and_save(self, trackers: Trackers | None) -> None:
        """Validate and write a checkpoint; a request to end interrupts the validation, which the next start repeats."""
        validation: Mapping[str, float] = {}
        if self.main:
            try:
                with self.stop.interrupting(), self._averaged():
                    validation = self.task.validate(self.run_folder / "samples", self.step)
            except Stopped:
                self.unvalidated = True
                self._checkpoint({})
                say(f"stopped in the validation after step {self.step}; the checkpoint is written.")
                raise
            wrong = [name for name, value in validation.items() if not math.isfinite(value)]
            if wrong:
                raise self._diverged(self.step, ", ".join(wrong))
            if trackers is not None:
                trackers.log(self.step, validation)
        self.accelerator.wait_for_everyone()
        self.unvalidated = False
        self._save(validation)

    def _save(self, validation: Mapping[str, float]) -> None:
        if self.main:
            self._checkpoint(validation)
        self.accelerator.wait_for_everyone()

    def _stop_if_asked(self) -> None:
        """Where the program was asked to end, write a checkpoint and end.

        Raises:
            Stopped: it was asked.
        """
        number = self.stop.number
        if self.accelerator.num_processes > 1:
            # All processes end after the same step.
            asked = torch.tensor(float(number or 0), device=self.accelerator.device)
            number = round(float(self.accelerator.reduce(asked, reduction="sum"))) or None
        if number is None:
            return
        if finished_steps(self.run_folder) < self.step:
            self._require_finite()
            self._save({})
        if self.main:
            say(f"stopped after step {self.step} of {self.options.steps}; the checkpoint is written.")
        raise Stopped(self.stop.number or signal.SIGTERM)

    def _require_finite(self) -> None:
        """Refuse to continue, or to write anything, after a step with a loss or a gradient that is not finite.

        Raises:
            UserError: names the step.
        """
        step = float(self.bad_step)
        if math.isfinite(step):
            what = "the loss" if float(self.bad_loss) <= step else "the gradient of the loss"
            raise self._diverged(round(step), what)

    def _diverged(self, step: int, what: str) -> UserError:
        """Says what is not finite after a step, what is left, and what may help here."""
        last = finished_steps(self.run_folder)
        kept = f"the checkpoint of step {last} is retained, and is the model" if last else "there is no checkpoint yet"
        precise = self.accelerator.mixed_precision == "no"
        if step == 1:
            # No weight was changed before it.
            also = "" if precise else ", or train with --loop.precision fp32"
            remedy = f"check the images and tables with `medloom data check`, and the weights it began with{also}"
        else:
            other = "" if precise else " or with --loop.precision fp32"
            remedy = f"train {'another run' if last else 'again'} with a lower --loop.learning-rate{other}"
        begins = "; --from begins with the model of this one" if last else ""
        return UserError(f"training diverged at step {step} ({kept}): {what} is not finite; {remedy}{begins}.")

    def _averaged(self) -> AbstractContextManager[None]:
        """Within the block the model has its averaged weights, if weights are averaged."""
        return self.ema.applied() if self.ema is not None else nullcontext()

    def _checkpoint(self, validation: Mapping[str, float]) -> None:
        """Write model/, the models with the lowest validation loss under best/, and the state.

        Raises:
            UserError: a weight is not finite; nothing is written.
        """
        self._require_finite_weights()
        self._save_model()
        loss = validation.get("validation/loss")
        if loss is not None and self.options.keep_best:
            self.best = sorted({*self.best, (loss, self.step)})[: self.options.keep_best]
            folder = self.run_folder / "best"
            if (loss, self.step) in self.best:
                with atomic_folder(folder / f"{PREFIX}{self.step:08d}") as temporary:
                    shutil.copytree(self.run_folder / "model", temporary, dirs_exist_ok=True)
            losses = {f"{PREFIX}{step:08d}": own for own, step in self.best}
            for old in folder.glob(f"{PREFIX}*"):
                if old.name not in losses:
                    discard_folder(old)
            write_json(folder / "best.json", losses)
        scaler = self.accelerator.scaler
        counters = {
            "best": self.best,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "unvalidated": self.unvalidated,
        }
        tensors = dict(self.task.state())
        if self.ema is not None:
            tensors |= {EMA_PREFIX + name: value for name, value in self.ema.shadow.items()}
        trainables = [entry.trainable for entry in self.prepared]
        save_state(self.run_folder / "state", self.step, trainables, tensors, counters)

    def _save_model(self) -> None:
        with atomic_folder(self.run_folder / "model") as temporary, self._averaged():
            self.task.save_model(temporary)

    def _require_finite_weights(self) -> None:
        """Refuse to write weights, averages or moments that are not finite.

        Raises:
            UserError: names the first.
        """
        averages = self.ema.shadow if self.ema is not None else {}
        tensors: dict[str, Tensor] = {**averages, **self.task.state()}
        for entry in self.prepared:
            tensors |= entry.trainable.weights() | entry.trainable.moments()
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise self._diverged(self.step, name)


def train(task: Task[BatchType], options: LoopOptions, run: Path, accelerator: "Accelerator") -> None:
    """Train a task to `options.steps`, from the run folder's last checkpoint if there is one.

    Args:
        task: what to train.
        options: how to train it.
        run: the run folder; gets state/, model/, best/, samples/ and logs/.
        accelerator: from `make_accelerator`.

    Raises:
        UserError: training diverges, or the disk is full; the last checkpoint is retained.
    """
    Loop(task, options, run, accelerator).run()


def finished_steps(run: Path) -> int:
    """Optimiser steps of a run folder's last checkpoint."""
    # From the folder's name: a running training may remove the folder as soon as it has written the next one.
    found = states(run / "state")
    return int(found[-1].name.removeprefix(PREFIX)) if found else 0


def parameter_groups(phase: Phase[BatchType]) -> list[dict[str, Any]]:
    """The parameters that a phase trains, one optimiser group per `factor` on the learning rate."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in phase.module.named_parameters():
        if parameter.requires_grad:
            factors = (value for start, value in phase.learning_rate_factors.items() if name.startswith(start))
            groups.setdefault(next(factors, 1.0), []).append(parameter)
    if not groups:
        raise ValueError(f"phase {phase.name!r} has nothing to train")
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]
