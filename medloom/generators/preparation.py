"""From a manifest to split and image space, before anything is decoded; and the description of the run on disk."""

import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.config import plain
from medloom.core.errors import UserError
from medloom.core.mask_spec import MaskSpec
from medloom.core.output_folder import empty_folder, held_by_main
from medloom.core.progress import say
from medloom.core.spec import HU, ImageSpec
from medloom.core.table_column import TableColumn
from medloom.core.types import DAYS, Sample
from medloom.data.dataset import Grid, ImageSource, measure_spec, read_headers
from medloom.data.manifest import Manifest, load_manifest, template_of
from medloom.data.prompts import read_template
from medloom.data.prompts.support import SUPPORT, TrainingSupport
from medloom.data.splits import Split, assign_splits, make_split
from medloom.data.table_columns import measure_columns, worded_columns
from medloom.data.transforms import HU_WINDOW
from medloom.data.units import joined_units, require_modalities
from medloom.generators.options import GeneratorOptions, TrainOptions
from medloom.generators.run_folder import RUN, Components, RunFolder, describe_run, find_run, has_steps
from medloom.generators.unused_options import Unused, by_content, effective
from medloom.phantom.cohort import count_virtual

if TYPE_CHECKING:
    from accelerate import Accelerator


# What may differ when a run is resumed: where it runs and where things lie, not what is computed. The data have a
# fingerprint; where days condition it, they stand in its table.
FREE = ("out", "data", "device", "cache", "config", "dry_run", "days")
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft", "numpy")


@dataclass(frozen=True)
class Prepared:
    """Training data before anything is decoded.

    Attributes:
        manifest: all usable rows.
        split: which patients are where.
        spec: the model's image space.
        train: training images; validation: held-out ones.
    """

    manifest: Manifest
    split: Split
    spec: ImageSpec
    train: ImageSource
    validation: ImageSource


def hu_window(options: TrainOptions, known: ImageSpec | None) -> tuple[float, float] | None:
    """The window of HU that is asked for, else that of images in HU in a known space; None where neither says it."""
    windows = {(own.low, own.high) for own in known.intensity.values() if own.unit == HU} if known else set()
    return options.hu_window or (windows.pop() if len(windows) == 1 else None)


def prepare(options: TrainOptions, verbose: bool, extends: ImageSpec | None = None) -> Prepared:
    """Read a manifest, split it by patient and measure the model's image space.

    Args:
        options: the manifest, how it is read, and the space; the loop's seed is that of the split.
        verbose: whether this process talks to the user.
        extends: the image space of a run that training continues; new modalities are added to it.

    Raises:
        UserError: see `read_manifest`, `assign_splits`, `measure_spec`.
    """
    if not 0 <= options.validation < 1:
        raise UserError(f"--validation {options.validation}: it has to be in [0, 1).")
    if options.hu_window is not None and not options.hu_window[0] < options.hu_window[1]:
        raise UserError(f"--hu-window {' '.join(map(str, options.hu_window))}: give the lower value first.")
    manifest = load_manifest(options.data, options, options.columns_needed)
    for note in manifest.notes if verbose else ():
        say(note)
    fractions = {"train": 1.0 - options.validation, "validation": options.validation}
    splits = assign_splits(manifest, fractions, options.loop.seed)
    train = manifest.select(name == "train" for name in splits)
    validation = manifest.select(name == "validation" for name in splits)
    if not len(train):
        raise UserError(f"{options.data}: no row is in the split 'train'.")
    validation = _known_to_training(validation, train, verbose)
    space, samples = options.space, [*train.samples(), *validation.samples()]
    unit = joined_units(options.unit, manifest.units)
    require_modalities(unit, manifest.modalities)
    headers = read_headers(samples, unit, verbose)
    spec = measure_spec(
        samples,
        space.size,
        options.resize,
        unit,
        verbose,
        options.hu_window or HU_WINDOW,
        space.spacing,
        space.patch,
        headers,
    )
    grids = {sample.path: (header.size, header.spacing) for sample, header in zip(samples, headers, strict=True)}
    if extends is not None:
        extends.require_same_space(
            replace(spec, channels=extends.channels), "the run of --from", "this training (--image-size, the data)"
        )
        if spec.channels > extends.channels:
            raise UserError("the data are in colour and the model has one channel; train a new model on both.")
        spec = replace(extends, intensity={**spec.intensity, **extends.intensity})
    if verbose:
        tested = splits.count("test")
        counts = f"{len(train)} training and {len(validation)} validation images of {', '.join(train.modalities)}"
        say(counts + (f"; {tested} test rows are left out" if tested else ""))
    return Prepared(
        manifest,
        make_split(manifest, splits),
        spec,
        _source(train, spec, unit, grids),
        _source(validation, spec, unit, grids),
    )


def without_data(options: TrainOptions, data: Prepared) -> list[Unused]:
    """Options that these images, or their table, give nothing to do."""
    found = []
    if HU not in {own.unit for own in data.spec.intensity.values()}:
        found.append(Unused(("hu_window",), "no image is in HU"))
    samples = data.train.samples
    if not all(DAYS in sample.condition.table for sample in samples):
        found.append(Unused((DAYS,), f"not every row has a column {DAYS}"))
    if all(sample.registered_prior is None for sample in samples):
        found.append(Unused(("unregistered",), "no row has a registered prior image"))
    return found


def _known_to_training(validation: Manifest, train: Manifest, verbose: bool) -> Manifest:
    """The validation rows whose modality and view occur in training; a model cannot be asked for others."""
    keep = [True] * len(validation)
    for name in ("modality", "view"):
        if name in train.frame:
            known = {None, *train.frame[name]}
            keep = [kept and cell in known for kept, cell in zip(keep, validation.frame[name], strict=True)]
    if not all(keep) and verbose:
        say(f"{keep.count(False)} validation rows are not used: no training patient has their modality or view.")
    return validation.select(keep)


def with_channels(prepared: Prepared, channels: int) -> Prepared:
    """The same data for a model with a fixed number of channels (an autoencoder's).

    Raises:
        UserError: colour data for one channel.
    """
    if prepared.spec.channels > channels:
        raise UserError(f"the data are in colour and the autoencoder takes {channels} channel.")
    spec = replace(prepared.spec, channels=channels)
    return replace(
        prepared,
        spec=spec,
        train=respecified(prepared.train, spec),
        validation=respecified(prepared.validation, spec),
    )


def respecified(source: ImageSource, spec: ImageSpec) -> ImageSource:
    """The same images in another space."""
    return replace(source, spec=spec, key={**source.key, "spec": spec.fingerprint()})


def with_samples(source: ImageSource, samples: list[Sample]) -> ImageSource:
    """Some of the images of a source."""
    return replace(source, samples=samples, key={**source.key, "lines": [sample.line for sample in samples]})


def with_masks(prepared: Prepared, masks: MaskSpec) -> Prepared:
    """The same data with the classes of their masks known: other labels are refused, and some are hidden."""
    train, validation = (replace(source, masks=masks) for source in (prepared.train, prepared.validation))
    return replace(prepared, train=train, validation=validation)


def _source(manifest: Manifest, spec: ImageSpec, unit: str | None, grids: Mapping[Path, Grid]) -> ImageSource:
    key = {"data": manifest.fingerprint(), "stamp": manifest.stamp(), "spec": spec.fingerprint()}
    return ImageSource(manifest.samples(), spec, unit, key, grids=grids)


def start_run(
    options: TrainOptions,
    family: str,
    components: Components,
    prepared: Prepared,
    accelerator: "Accelerator",
    parents: Sequence[Path] = (),
    unused: Sequence[Unused] = (),
) -> bool:
    """Describe the run on disk before its first step, or check that it is the same run.

    Args:
        options: of the run.
        family: what is trained.
        components: what index.json says of it.
        prepared: the data.
        accelerator: of the run.
        parents: run folders that it starts from, whose training patients it has therefore seen.
        unused: options that this way of building does not use.

    Returns:
        Whether this is its first start.

    Raises:
        UserError: --out holds something else, or the same run with other options.
    """

    fresh = False
    if accelerator.is_main_process:
        index = {"components": components.classes, "exporter": components.exporter}
        known = describe_run(options.out, family, index, description(options, prepared, accelerator, parents, unused))
        fresh = not known
        if isinstance(options, GeneratorOptions) and not (options.out / SUPPORT).is_file():
            _write_support(options, prepared)
    accelerator.wait_for_everyone()
    return fresh


def run_output(out: Path, accelerator: "Accelerator") -> AbstractContextManager[object]:
    """The run folder within a block, for this training alone; of several processes the main one holds it.

    Raises:
        UserError: --out holds something else, or another process trains in it.
    """
    return held_by_main(out, RUN, accelerator)


@contextmanager
def nothing_left(out: Path, fresh: bool) -> Iterator[None]:
    """Where a run fails at its first start, before its first checkpoint, its folder is emptied again.

    One that is stopped keeps what it has decoded.
    """
    try:
        yield
    except Exception:
        if fresh and out.is_dir() and not has_steps(out):
            empty_folder(out)
        raise


def description(
    options: TrainOptions,
    prepared: Prepared,
    accelerator: "Accelerator",
    parents: Sequence[Path] = (),
    unused: Sequence[Unused] = (),
) -> dict[str, Any]:
    """What run.json holds: the options that the model is made by, fingerprints of data and split, space, versions."""
    import torch

    import medloom

    given = {name: value for name, value in plain(asdict(options)).items() if name not in FREE}
    given["loop"] = {name: value for name, value in given["loop"].items() if name != "wandb"}
    given["hu_window"] = given["hu_window"] or plain(HU_WINDOW)
    places = {"data": str(options.data)}
    given = effective(by_content(given, places), unused)
    return {
        "places": places,
        "identity": {
            "options": {"task": options.task, **given},
            "data": prepared.manifest.fingerprint(getattr(options, "table", ())),
            "split": prepared.split.fingerprint,
            "spec": prepared.spec.to_dict(),
        },
        "split": prepared.split.to_dict(),
        "inherited_splits": [split.to_dict() for parent in parents for split in RunFolder(parent).splits()],
        "images_are_patients": prepared.manifest.patients_are_images,
        "columns": training_columns(options, prepared),
        "population": population(prepared, parents),
        "environment": {
            "medloom": medloom.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
            "threads": torch.get_num_threads(),
            "processes": accelerator.num_processes,
            "device": str(accelerator.device),
            "precision": {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision),
            "platform": f"{sys.platform} {platform.machine()}",
            "cores": os.cpu_count(),
        },
    }


def population(prepared: Prepared, parents: Sequence[Path] = ()) -> dict[str, Any]:
    """What a card says of the training images, in counts: modalities, and how many are of virtual patients."""
    samples = prepared.train.samples
    return {
        "images": len(samples),
        "modalities": dict(sorted(Counter(sample.condition.modality or "" for sample in samples).items())),
        "virtual_images": count_virtual(sample.path for sample in samples),
        "before": [RunFolder(parent).description().get("population") for parent in parents],
    }


def training_columns(options: TrainOptions, prepared: Prepared) -> list[dict[str, Any]]:
    """What the training texts say of the columns of the template next to the manifest, and those of a run before it.

    Empty without a template, and where the texts are not the template's.
    """
    source = prepared.manifest.source
    beside, before = template_of(source), getattr(options, "from_run", None)
    found: dict[str, TableColumn] = {}
    if before is not None and (run := find_run(before)) is not None:
        found = {column.name: column for column in run.worded_columns()}
    if beside is not None:
        for column in worded_columns(prepared.train.samples, read_template(beside), source):
            earlier = found.get(column.name)
            found[column.name] = column if earlier is None else column.joined(earlier)
    return [asdict(column) for column in found.values()]


def _write_support(options: GeneratorOptions, prepared: Prepared) -> None:
    """Keep how many training patients there are near each other in the columns that the model is conditioned on.

    These are the template's columns that are worded, and those of --table; without either nothing is written.
    """
    beside, samples = template_of(prepared.manifest.source), prepared.train.samples
    template = None if beside is None else read_template(beside)
    columns = [] if template is None else list(worded_columns(samples, template, prepared.manifest.source))
    known = [column.name for column in columns]
    alone = [name for name in options.table if name not in known]
    columns += measure_columns(alone, samples, template, str(options.data))
    if columns:
        TrainingSupport.measure(samples, columns, template).write(options.out / SUPPORT)


def spread(samples: Sequence[object], groups: Sequence[str], count: int) -> list[int]:
    """Indices of up to `count` samples, taken in turn from each group, so that every modality is among them."""
    by_group: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        by_group.setdefault(group, []).append(index)
    chosen: list[int] = []
    while len(chosen) < min(count, len(samples)):
        for group in sorted(by_group):
            if by_group[group] and len(chosen) < count:
                chosen.append(by_group[group].pop(0))
    return sorted(chosen)
