"""Loading generators of any family from run folders."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medloom.core.errors import UserError, first_line
from medloom.core.files import read_mapping
from medloom.core.mask_spec import MaskSpec
from medloom.core.spec import ImageSpec
from medloom.data.padding import TrainingExtents
from medloom.generators.base import SETTINGS, AnyGenerator
from medloom.generators.registry import FAMILIES, get_family
from medloom.generators.run_folder import RunFolder, open_run
from medloom.generators.training_record import TrainingRecord
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.library_errors import LOAD_ERRORS
from medloom.networks.text import load_text_parts
from medloom.training.devices import check_device

# By folder, device and a stamp of the files, the last used one last; see `retaining`.
_retained_generators: dict[tuple[str, str, str], AnyGenerator] = {}
_retained_count = 0


def load_generator(folder: Path) -> AnyGenerator:
    """Read what `ImageGenerator.save` wrote; networks are in evaluation mode, on the CPU.

    Raises:
        UserError: a component is missing or cut short.
    """
    try:
        generator = _read_generator(folder, read_mapping(folder / SETTINGS))
    except UserError as error:
        # A part says what is wrong with it; whose part it is is known here.
        if str(folder) in str(error):
            raise
        raise UserError(f"the model in {folder}: {error}") from error
    except LOAD_ERRORS as error:
        raise UserError(
            f"the model in {folder} cannot be loaded ({first_line(error)}): it was cut short or changed, or another"
            " version wrote it."
        ) from error
    generator.model.eval()
    generator.folder = folder
    return generator


def _read_generator(folder: Path, settings: Mapping[str, Any]) -> AnyGenerator:
    text = load_text_parts(
        str(folder / "text_encoder"), str(folder / "tokenizer"), settings["max_tokens"], settings["pad"]
    )
    condition = None if settings["exportable"] else ConditionEncoder.from_pretrained(folder / "condition")
    kind = get_family(settings["family"]).generator
    if kind is None:
        raise UserError(f"the model in {folder} is of the family {settings['family']}, which generates no images.")
    spec = ImageSpec.from_dict(settings["spec"])
    generator = kind.from_components(folder, settings, spec, text, condition)
    generator.reads_text = settings["reads_text"]
    generator.masks = MaskSpec.from_dict(settings["masks"])
    # Models of versions that kept no record are asked as before.
    if (record := settings.get("trained_on")) is not None:
        generator.remember(TrainingRecord.from_dict(record))
    # Models of versions that kept none are not given where content lies; they were not in training either.
    if (extents := settings.get("extents")) is not None:
        generator.extents = TrainingExtents.from_dict(spec.size, extents)
    # Models of versions that kept none have their family's.
    generator.sampling = replace(generator.sampling, **settings.get("sampling", {}))
    return generator


def open_generator(path: Path, option: str = "--model") -> RunFolder:
    """Open the run folder of an image generator.

    Raises:
        UserError: it is none.
    """
    run = open_run(path, tuple(FAMILIES), option)
    if get_family(run.index()["family"]).generator is None:
        family = run.index()["family"]
        raise UserError(f"{option} {path} holds a run of the family {family}, which generates no images.")
    return run


def load(path: Path | str, device: str = "auto", unit: str | None = None) -> AnyGenerator:
    """Load a trained generator of any family.

    Args:
        path: run folder that `medloom train` wrote.
        device: auto (a GPU where there is one), cpu or cuda.
        unit: of the values of mask and prior files that do not state theirs.

    Raises:
        UserError: not a run folder of a generator, one cut short, or a device that is not there.

    Examples:
        >>> import medloom
        >>> model = medloom.load("runs/mm")
        >>> model.family, model.spec.size
        ('diffusion', (16, 16))
    """
    if not isinstance(path, str | Path):
        raise UserError(f"load: {path!r} is no path; give the run folder that `medloom train` wrote.")
    check_device(device)
    place = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    run = open_generator(Path(path))
    generator = _retained(run, place) or load_generator(run.model).to(place)
    generator.unit = unit
    return generator


@contextmanager
def retaining(count: int) -> Iterator[None]:
    """Within the block `load` retains the last few generators, and returns one again while its files are the same.

    For a process that runs many commands of a few models. A generator is changed by its user: its `unit` is that of the
    last call.

    Args:
        count: generators to retain.
    """
    global _retained_count
    before, _retained_count = _retained_count, count
    try:
        yield
    finally:
        _retained_count = before
        _retained_generators.clear()


def _retained(run: RunFolder, place: str) -> AnyGenerator | None:
    """The retained generator of a run, loaded if there is none yet; None where none are retained."""
    if not _retained_count:
        return None
    key = str(run.model.absolute()), place, run.model_stamp()
    generator = _retained_generators.pop(key, None)
    while len(_retained_generators) >= _retained_count:
        # Before another one is loaded, so that no more are in memory at a time.
        _retained_generators.pop(next(iter(_retained_generators)))
    _retained_generators[key] = generator or load_generator(run.model).to(place)
    return _retained_generators[key]
