"""Options of the training loop."""

import math
from dataclasses import dataclass

from medloom.core.limits import check_limits, limited

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
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
        precision: fp32, bf16 or fp16 (GPU only) for the networks' arithmetic, or auto: bf16 where the device computes
            in it, otherwise fp32; weights stay in fp32.
        compile: compile the networks with torch.compile.
        seed: of initial weights, data order, noise, times and dropout.
        log_every: steps between two lines of logs/metrics.csv.
        validate_every: steps between two validations and grids of the fixed conditions.
        checkpoint_every: steps between two checkpoints: the most that a killed run has to repeat.
        keep_best: number of models with the lowest validation loss to retain in addition to the last.
        wandb: name of a Weights & Biases project to log to as well (needs the extra `wandb`).
    """

    steps: int = limited(4000, at_least=1)
    batch: int = limited(32, at_least=1)
    accumulate: int = limited(1, at_least=1)
    learning_rate: float = limited(1e-4, above=0)
    warmup: int = limited(100, at_least=0)
    schedule: str = limited("constant", words=SCHEDULES)
    weight_decay: float = limited(0.01, at_least=0, setting=True)
    clip: float = limited(1.0, above=0, setting=True)
    ema: float = limited(0.999, at_least=0, below=1)
    precision: str = limited("auto", words=PRECISIONS)
    compile: bool = False
    seed: int = limited(0, at_least=0)
    log_every: int = limited(50, at_least=1, setting=True)
    validate_every: int = limited(1000, at_least=1)
    checkpoint_every: int = limited(500, at_least=1)
    keep_best: int = limited(1, at_least=0, setting=True)
    wandb: str | None = None

    def __post_init__(self) -> None:
        check_limits(self, "loop")


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
