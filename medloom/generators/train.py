"""The training program: manifest -> split -> image space -> model -> caches -> loop -> card. One for all families."""

import shlex
from dataclasses import replace
from pathlib import Path

from medloom.core.config import given_options
from medloom.core.progress import say
from medloom.core.types import DAYS
from medloom.generators.dry_run import dry_run
from medloom.generators.options import TrainOptions
from medloom.generators.preparation import hu_window, nothing_left, prepare, run_output, start_run, without_data
from medloom.generators.registry import get_family
from medloom.generators.run_folder import is_finished, write_card, write_finished
from medloom.generators.unused_options import refuse_unused
from medloom.training.devices import make_accelerator
from medloom.training.loop import finished_steps
from medloom.training.loop import train as run_loop


def train(options: TrainOptions) -> Path:
    """Train a model; returns the run folder. The same options again resume the run.

    Args:
        options: of one of the families' tasks, e.g. `medloom.generators.diffusion.options.TextToImage`.

    Raises:
        UserError: options that exclude each other, data that cannot be used, or a run folder of something else.
    """
    given = given_options(options)
    family = get_family(options.family)
    options = family.checked(options)
    accelerator = make_accelerator(options.loop, options.device, family.may_leave_unused(options))
    verbose = accelerator.is_main_process

    # What it starts from decides the window of HU, and of a run that is continued the image space.
    origin = family.origin(options)
    unused = family.unused(options, origin)
    refuse_unused(options, given, unused)
    options = replace(options, hu_window=hu_window(options, origin.space))
    data = prepare(options, verbose, origin.extends)
    refuse_unused(options, given, without_data(options, data))
    options = family.completed(options, data, origin, verbose)
    data, trained = family.build(options, data, origin, verbose)
    if options.dry_run:
        dry_run(options, family, data, trained, accelerator)
        return options.out

    use = options.next_step
    if ("--prompt" in use or "--image" in use) and len(data.spec.intensity) > 1:
        use += f" --modality {shlex.quote(min(data.spec.intensity))}"
    if "--image" in use and DAYS in getattr(options, "table", ()):
        use += f" --{DAYS} N"
    with run_output(options.out, accelerator):
        # The run describes itself before its first step; the same command again finds the same run.
        stated = family.described(options, trained)
        fresh = start_run(stated, family.name, family.components(trained), data, accelerator, origin.parents, unused)
        done = is_finished(options.out, options.loop.steps, family.companions())
        if done and finished_steps(options.out) >= options.loop.steps:
            if verbose:
                say(f"{options.out} is finished: {options.loop.steps} steps. Continue with: {use}")
            return options.out
        with nothing_left(options.out, fresh and verbose):
            task = family.task(options, data, trained, accelerator)
            run_loop(task, options.loop, options.out, accelerator)
        if verbose:
            family.report(options, data, task)
            write_card(options.out, data.spec, len(data.train.samples), options.loop.steps)
            write_finished(options.out, options.loop.steps)
            say(f"trained: {options.out}. Continue with: {use}")
        accelerator.wait_for_everyone()
    return options.out
