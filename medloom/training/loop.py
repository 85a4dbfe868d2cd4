"""One training loop for every generator. It sees only the Task protocol, and runs on Hugging Face Accelerate."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.core.files import atomic_folder, remove_leftovers, write_json
from medloom.core.progress import progress, say
from medloom.core.types import Batch, Phase, Task
from medloom.networks.ema import ExponentialMovingAverage
from medloom.training.options import LoopOptions, learning_rate_factor
from medloom.training.prefetch import one_ahead
from medloom.training.state import PREFIX, Trainable, disk_needed, load_state, save_state, states
from medloom.training.trackers import Trackers

if TYPE_CHECKING:
    from accelerate import Accelerator

EMA_PREFIX = "ema."
RATE = "rate"


def make_accelerator(options: LoopOptions, device: str = "auto", some_unused: bool = False) -> "Accelerator":
    """The Accelerator of a run.

    Args:
        options: precision is read from them.
        device: auto (a GPU where there is one), cpu or cuda.
        some_unused: whether a step may leave some trained weights without gradient, which several processes have to
            look for (at a cost).

    Raises:
        UserError: CUDA asked for where there is none, fp16 on a CPU, or a batch that does not divide.
    """
    check_device(device)
    from datetime import timedelta

    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if options.precision == "fp16" and on_cpu:
        raise UserError("--loop.precision fp16 needs a GPU; on a CPU use bf16 or fp32.")
    mixed = "no" if options.precision == "fp32" else options.precision
    # Caching on the main process may take hours while the others wait.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=24))
    gradients = DistributedDataParallelKwargs(find_unused_parameters=some_unused)
    # A second training of the same program may ask for another precision, which Accelerate would refuse.
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=mixed, cpu=on_cpu, kwargs_handlers=[patience, gradients])
    share = accelerator.num_processes * options.accumulate
    if options.batch % share:
        raise UserError(
            f"--loop.batch {options.batch} does not divide over {accelerator.num_processes} processes and"
            f" {options.accumulate} micro-batches; use a multiple of {share}."
        )
    return accelerator


def check_device(device: str) -> None:
    """Refuse CUDA where there is none.

    Raises:
        UserError: says what is allowed.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device} is not known; allowed: auto, cpu, cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is available here; use --device cpu or auto.")


@dataclass
class _Prepared:
    phase: Phase
    module: nn.Module
    trainable: Trainable


class Loop:
    """Trains a Task in a run folder; see `train`."""

    def __init__(self, task: Task, options: LoopOptions, run: Path, accelerator: "Accelerator") -> None:
        self.task = task
        self.options = options
        self.run_folder = run
        self.accelerator = accelerator
        self.main = accelerator.is_main_process
        self.prepared = [self._prepare(phase) for phase in task.phases()]
        averaged = task.ema()
        self.ema = ExponentialMovingAverage(averaged, options.ema) if averaged is not None and options.ema else None
        self.best: list[tuple[float, int]] = []
        self.step = self._restore()

    def _prepare(self, phase: Phase) -> _Prepared:
        optimizer = torch.optim.AdamW(
            parameter_groups(phase),
            lr=phase.learning_rate,
            betas=phase.betas,
            weight_decay=phase.weight_decay,
            fused=True,
        )
        module = torch.compile(phase.module) if self.options.compile else phase.module
        wrapped, prepared_optimizer = self.accelerator.prepare(module, optimizer)
        return _Prepared(phase, wrapped, Trainable(phase.name, phase.module, prepared_optimizer.optimizer))

    def _restore(self) -> int:
        """Load the last checkpoint; the step that training goes on from."""
        found = states(self.run_folder / "state")
        if not found:
            return 0
        counters, tensors = load_state(found[-1], [entry.trainable for entry in self.prepared])
        if self.ema is not None:
            names = {name: tensor for name, tensor in tensors.items() if name.startswith(EMA_PREFIX)}
            self.ema.load({name.removeprefix(EMA_PREFIX): tensor for name, tensor in names.items()})
        self.task.load_state({name: t for name, t in tensors.items() if not name.startswith(EMA_PREFIX)})
        if self.accelerator.scaler is not None and counters["scaler"]:
            self.accelerator.scaler.load_state_dict(counters["scaler"])
        self.best = [(loss, step) for loss, step in counters["best"]]
        return int(counters["step"])

    def run(self) -> None:
        """Train to the last step."""
        options, accelerator = self.options, self.accelerator
        if self.main:
            remove_leftovers(self.run_folder)
            remove_leftovers(self.run_folder / "state")
            self._announce_disk()
        accelerator.wait_for_everyone()
        trackers = Trackers(self.run_folder / "logs", self.step, options.wandb, vars(options)) if self.main else None
        batches = one_ahead(self.task.batches(self.step, accelerator.process_index, accelerator.num_processes))
        if self.main and self.step:
            say(f"going on from step {self.step} of {options.steps}")
        try:
            with progress("training", options.steps, "steps", self.step, shown=self.main) as advance:
                started = time.perf_counter()
                while self.step < options.steps:
                    figures = self._one_step(next(batches))
                    self._after_step(figures, trackers, started)
                    started = time.perf_counter()
                    advance(1, ", ".join(f"{n} {v:.4f}" for n, v in figures.items() if "/" not in n))
        finally:
            batches.close()
            if trackers is not None:
                trackers.close()

    def _announce_disk(self) -> None:
        """Say how much disk the checkpoints will take, before the first step."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        needed = disk_needed([e.trainable for e in self.prepared], self.ema is not None, self.options.keep_best)
        # The task's own tensors (a pool of images, say) are in both states while one replaces the other.
        needed += 2 * sum(tensor.numel() * tensor.element_size() for tensor in self.task.state().values())
        free = shutil.disk_usage(self.run_folder).free
        say(f"checkpoints take up to {needed / 1e9:.2f} GB in {self.run_folder}; {free / 1e9:.1f} GB are free")
        if needed > free and not self.step:
            raise UserError(
                f"checkpoints need {needed / 1e9:.2f} GB under {self.run_folder}, and {free / 1e9:.2f} GB are free;"
                " free some space, or take another --out."
            )

    def _one_step(self, micro_batches: Sequence[Batch]) -> dict[str, float]:
        """One optimiser step of every phase that is due; figures where the step is logged."""
        logged: dict[str, Tensor] = {}
        factor = learning_rate_factor(self.options, self.step)
        for entry in self.prepared:
            if (self.step + 1) % entry.phase.every:
                continue
            logged |= self._phase_step(entry, micro_batches, factor)
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.step)
        self.task.after_step(self.step)
        if self.step % self.options.log_every and self.step != self.options.steps:
            return {}
        return self._mean_over_processes(logged)

    def _phase_step(self, entry: _Prepared, micro_batches: Sequence[Batch], factor: float) -> dict[str, Tensor]:
        optimizer = entry.trainable.optimizer
        for group in optimizer.param_groups:
            group["lr"] = entry.phase.learning_rate * group[RATE] * factor
        parts = len(micro_batches)
        totals: dict[str, Tensor] = {}
        for number, batch in enumerate(micro_batches, 1):
            last = number == parts
            with nullcontext() if last else self.accelerator.no_sync(entry.module):
                with self.accelerator.autocast():
                    loss, figures = entry.phase.loss(entry.module, batch)
                self.accelerator.backward(loss / parts)
            for name, value in {entry.phase.name: loss, **figures}.items():
                totals[name] = totals.get(name, 0) + value.detach().float() / parts
        parameters = [p for p in entry.trainable.module.parameters() if p.requires_grad]
        norm = self.accelerator.clip_grad_norm_(parameters, self.options.clip)
        self._require_finite(norm, entry.phase.name)
        self._optimizer_step(optimizer)
        optimizer.zero_grad(set_to_none=True)
        totals[f"{entry.phase.name}/gradient norm"] = norm.detach().float()
        return totals

    def _optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        scaler = self.accelerator.scaler
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()

    def _require_finite(self, norm: Tensor, name: str) -> None:
        # fp16 overflows now and then by design; its scaler skips such steps.
        if self.accelerator.scaler is None and self.step % self.options.log_every == 0 and not torch.isfinite(norm):
            raise UserError(
                f"training diverged at step {self.step}: the gradient of {name} is not finite;"
                " lower --loop.learning-rate, or use --loop.precision fp32. The last checkpoint is kept."
            )

    def _mean_over_processes(self, figures: Mapping[str, Tensor]) -> dict[str, float]:
        names = sorted(figures)
        if not names:
            return {}
        values = torch.stack([figures[name].to(self.accelerator.device) for name in names])
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, reduction="mean")
        return dict(zip(names, values.tolist(), strict=True))

    def _after_step(self, figures: Mapping[str, float], trackers: Trackers | None, started: float) -> None:
        options = self.options
        finished = self.step == options.steps
        if trackers is not None and figures:
            trackers.log(self.step, figures)
            speed = options.batch / (time.perf_counter() - started)
            trackers.log_speed(self.step, {"images per second": speed})
        validation: Mapping[str, float] = {}
        if self.step % options.validate_every == 0 or finished:
            validation = self._validate(trackers)
        if self.step % options.checkpoint_every == 0 or finished or validation:
            self._checkpoint(validation)

    def _with_ema(self, action: Callable[[], Any]) -> Any:
        with self.ema.applied() if self.ema is not None else nullcontext():
            return action()

    def _validate(self, trackers: Trackers | None) -> Mapping[str, float]:
        figures: Mapping[str, float] = {}
        if self.main:
            out = self.run_folder / "samples"
            figures = self._with_ema(lambda: self.task.validate(out, self.step))
            if trackers is not None:
                trackers.log(self.step, figures)
        self.accelerator.wait_for_everyone()
        return figures

    def _checkpoint(self, validation: Mapping[str, float]) -> None:
        if self.main:
            self._save_model(self.run_folder / "model")
            self._keep_best(validation)
            scaler = self.accelerator.scaler
            counters = {"best": self.best, "scaler": scaler.state_dict() if scaler is not None else None}
            tensors = dict(self.task.state())
            if self.ema is not None:
                tensors |= {EMA_PREFIX + name: value for name, value in self.ema.shadow.items()}
            save_state(
                self.run_folder / "state", self.step, [entry.trainable for entry in self.prepared], tensors, counters
            )
        self.accelerator.wait_for_everyone()

    def _save_model(self, folder: Path) -> None:
        with atomic_folder(folder) as temporary:
            self._with_ema(lambda: self.task.save_model(temporary))

    def _keep_best(self, validation: Mapping[str, float]) -> None:
        """Keep the models with the lowest validation loss under best/step-N."""
        loss = validation.get("validation/loss")
        if loss is None or not self.options.keep_best:
            return
        ranked = sorted({*self.best, (loss, self.step)})[: self.options.keep_best]
        folder = self.run_folder / "best"
        if (loss, self.step) in ranked:
            with atomic_folder(folder / f"step-{self.step:08d}") as temporary:
                shutil.copytree(self.run_folder / "model", temporary, dirs_exist_ok=True)
        kept = {f"step-{step:08d}": loss for loss, step in ranked}
        for old in folder.glob("step-*"):
            if old.name not in kept:
                shutil.rmtree(old)
        self.best = ranked
        write_json(folder / "best.json", kept)


def train(task: Task, options: LoopOptions, run: Path, accelerator: "Accelerator") -> None:
    """Train a task to `options.steps`, from the run folder's last checkpoint where there is one.

    Args:
        task: what is trained.
        options: how.
        run: the run folder; gets state/, model/, best/, samples/ and logs/.
        accelerator: from `make_accelerator`.

    Raises:
        UserError: training diverges, or the disk is full; the last checkpoint is kept.
    """
    Loop(task, options, run, accelerator).run()


def finished_steps(run: Path) -> int:
    """Optimiser steps that a run folder's last checkpoint has."""
    # By the folder's name: a training that is under way may remove the folder as soon as the next one is there.
    found = states(run / "state")
    return int(found[-1].name.removeprefix(PREFIX)) if found else 0


def parameter_groups(phase: Phase) -> list[dict[str, Any]]:
    """What a phase trains, a group for each factor on the learning rate."""
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in phase.module.named_parameters():
        if parameter.requires_grad:
            factors = (value for start, value in phase.learning_rate_factors.items() if name.startswith(start))
            groups.setdefault(next(factors, 1.0), []).append(parameter)
    if not groups:
        raise ValueError(f"phase {phase.name!r} has nothing to train")
    return [{"params": parameters, RATE: rate} for rate, parameters in groups.items()]
