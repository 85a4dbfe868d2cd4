"""What a training takes: its first steps on a few rows, measured in a scratch folder that is removed again."""

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import torch

from medloom.core.errors import UserError
from medloom.core.progress import duration, quiet, say
from medloom.core.types import BatchType, Task
from medloom.data.dataset import ImageSource
from medloom.generators.family import Family
from medloom.generators.options import TrainOptions
from medloom.generators.preparation import Prepared, spread, with_samples
from medloom.training.loop import Loop
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

    from medloom.training.trackers import Trackers

Options = TypeVar("Options", bound=TrainOptions)
Trained = TypeVar("Trained")

# Rows that are read, and steps that are timed after the first one, which is slower than all others.
ROWS = {2: 64, 3: 8}
TIMED_STEPS = 3


class _TimedLoop(Loop[BatchType]):
    """A loop that notes how long its steps take, and the validation and checkpoint after the last one."""

    def __init__(self, task: Task[BatchType], options: LoopOptions, run: Path, accelerator: "Accelerator") -> None:
        super().__init__(task, options, run, accelerator)
        self.steps: list[float] = []
        self.saving = 0.0

    def _after_step(self, values: Mapping[str, float], trackers: "Trackers | None", started: float) -> None:
        stepped = time.perf_counter()
        self.steps.append(stepped - started)
        super()._after_step(values, trackers, started)
        self.saving = time.perf_counter() - stepped


def dry_run(
    options: Options, family: Family[Options, Trained], data: Prepared, trained: Trained, accelerator: "Accelerator"
) -> None:
    """Say how much memory, disk and time a training takes; nothing is written to its run folder.

    Args:
        options: of the training.
        family: of the model.
        data: all rows; up to `ROWS` training and as many validation rows are read.
        trained: the model, which is trained for a few steps.
        accelerator: of the training, of one process.

    Raises:
        UserError: more than one process, or what the training would refuse.
    """
    if accelerator.num_processes > 1:
        raise UserError("--dry-run measures one process; leave torchrun out.")
    with TemporaryDirectory(prefix="medloom-") as name, quiet():
        scratch = Path(name)
        few, rows = _few(data)
        trial = replace(family.at_full_load(options), out=scratch / "run", cache=scratch / "cache")
        started = time.perf_counter()
        task = family.task(trial, few, trained, accelerator)
        caching = time.perf_counter() - started
        # A phase that is not due at each step is timed as often as it is due.
        period = max(phase.every for phase in task.phases())
        steps = 1 + TIMED_STEPS * period
        timed = replace(options.loop, steps=steps, warmup=0, log_every=1, validate_every=steps, wandb=None)
        loop = _TimedLoop(task, timed, trial.out, accelerator)
        loop.run()
        cached, state, model = (_size(scratch / part) for part in ("cache", "run/state", "run/model"))

    factor = (len(data.train.samples) + len(data.validation.samples)) / rows
    loop_options, step = options.loop, sum(loop.steps[1:]) / (len(loop.steps) - 1)
    training = loop.steps[0] + step * (loop_options.steps - 1)
    saves = 1 + loop_options.steps // min(loop_options.validate_every, loop_options.checkpoint_every)
    saving = loop.saving * saves
    # While one checkpoint replaces another, both are there. Measured, because a model folder holds frozen networks too.
    checkpoints = 2 * state + (2 + loop_options.keep_best) * model
    # The run folder is not made; the nearest folder above it lies on the same disk.
    out = options.out.absolute()
    free = shutil.disk_usage(next(path for path in [out, *out.parents] if path.is_dir())).free
    hours = (caching * factor + training + saving) / 3600
    rows_in_all, cache = round(rows * factor), f"{cached * factor / 1e9:.2g} GB of caches in {options.cache_folder}"
    say(f"dry run of {options.out}: {len(loop.steps)} steps on {rows} of {rows_in_all} rows; nothing is kept")
    say(f"  memory  {_memory(accelerator.device)}")
    say(f"  disk    {cache}, up to {checkpoints / 1e9:.2g} GB of checkpoints; {free / 1e9:.1f} GB are free")
    say(
        f"  time    {hours:.2g} hours ({duration(3600 * hours)}): {duration(caching * factor)} to fill the caches,"
        f" {duration(training)} for {loop_options.steps} steps of {step:.3g} s, {duration(saving)} for {saves}"
        " validations and checkpoints"
    )


def _few(data: Prepared) -> tuple[Prepared, int]:
    """The data with some of the rows, of all modalities, and how many these are."""

    def some(source: ImageSource) -> ImageSource:
        modalities = [str(sample.condition.modality) for sample in source.samples]
        chosen = spread(source.samples, modalities, ROWS[data.spec.spatial_dims])
        return with_samples(source, [source.samples[index] for index in chosen])

    train, validation = some(data.train), some(data.validation)
    return replace(data, train=train, validation=validation), len(train.samples) + len(validation.samples)


def _size(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _memory(device: torch.device) -> str:
    """The most memory that the steps took: a GPU's, or this process's own."""
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        return f"{torch.cuda.max_memory_allocated(device) / 1e9:.2f} of the GPU's {whole / 1e9:.1f} GB"
    if sys.platform == "win32":
        return "not measured on Windows"
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes, on macOS bytes.
    return f"{peak * (1 if sys.platform == 'darwin' else 1024) / 1e9:.2f} GB of main memory"
