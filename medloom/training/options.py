"""Options of the training loop."""

import math
from dataclasses import dataclass

from medloom.core.errors import UserError
from medloom.core.options import setting

PRECISIONS = ("fp32", "bf16", "fp16")
SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class LoopOptions:
    """How long and how to train; the same for every generator.

    Attributes:
        steps: total number of optimiser steps.
        batch: images per step, over all processes and accumulated micro-batches.
        accumulate: micro-batches per step.
        learning_rate: peak learning rate.
        warmup: steps over which the learning rate rises from zero.
        schedule: constant, linear or cosine decay to zero after the warm-up.
        weight_decay: decoupled weight decay.
        clip: largest norm of the gradient.
        ema: decay of the moving average of the weights; the average is saved as the model.
        precision: fp32, bf16 or fp16 (GPU only) for the networks' arithmetic; weights stay in fp32.
        compile: compile the networks with torch.compile.
        seed: of initial weights, data order, noise, times and dropout.
        log_every: steps between two lines of logs/metrics.csv.
        validate_every: steps between two validations and grids of the fixed conditions.
        checkpoint_every: steps between two checkpoints: the most that a killed run has to repeat.
        keep_best: number of models with the lowest validation loss to retain in addition to the last.
        wandb: name of a Weights & Biases project to log to as well (needs the extra `wandb`).
    """

    steps: int = 4000
    batch: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-4
    warmup: int = 100
    schedule: str = "constant"
    weight_decay: float = setting(0.01)
    clip: float = setting(1.0)
    ema: float = 0.999
    precision: str = "bf16"
    compile: bool = False
    seed: int = 0
    log_every: int = setting(50)
    validate_every: int = 1000
    checkpoint_every: int = 500
    keep_best: int = setting(1)
    wandb: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "log_every", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"--loop.{name.replace('_', '-')} {getattr(self, name)}: it must be at least 1.")
        if not self.learning_rate > 0 or not self.clip > 0 or not 0 <= self.ema < 1 or self.warmup < 0:
            raise UserError(
                f"--loop.learning-rate {self.learning_rate}, --loop.clip {self.clip}, --loop.ema {self.ema},"
                f" --loop.warmup {self.warmup}: the first two must be above 0, ema in [0, 1), warmup 0 or more."
            )
        if self.precision not in PRECISIONS or self.schedule not in SCHEDULES:
            raise UserError(
                f"--loop.precision {self.precision} and --loop.schedule {self.schedule}: allowed are"
                f" {', '.join(PRECISIONS)}; {', '.join(SCHEDULES)}."
            )
        if self.keep_best < 0 or self.seed < 0:
            raise UserError("--loop.keep-best and --loop.seed must not be negative.")


def learning_rate_factor(options: LoopOptions, step: int) -> float:
    """The fraction of the peak learning rate at optimiser step `step` (from 0): a function of the step only."""
    if step < options.warmup:
        return (step + 1) / options.warmup
    if options.schedule == "constant":
        return 1.0
    passed = (step - options.warmup) / max(1, options.steps - options.warmup)
    if options.schedule == "linear":
        return 1.0 - passed
    return 0.5 * (1.0 + math.cos(math.pi * passed))
