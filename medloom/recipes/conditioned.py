"""What the recipes that train a generator of conditions share: its table's columns, usable rows and fixed pictures."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError

if TYPE_CHECKING:
    from medloom.core.table_column import TableColumn
    from medloom.core.types import Condition, Sample
    from medloom.data.dataset import ImageSource
    from medloom.generators.base import ConditionedGenerator
    from medloom.generators.diffusion.generator import DiffusionGenerator
    from medloom.generators.preparation import Prepared

FIXED_CONDITIONS = 16


def corpus_text(condition: "Condition") -> str:
    """What a local tokenizer is trained on: `modality: text`, or whichever of the two there is."""
    return ": ".join(part for part in (condition.modality, condition.text) if part)


def modalities_and_views(prepared: "Prepared") -> tuple[list[str], list[str]]:
    """The names of each that training images have, sorted."""
    conditions = [sample.condition for sample in prepared.train.samples]
    modalities = sorted({condition.modality for condition in conditions if condition.modality})
    return modalities, sorted({condition.view for condition in conditions if condition.view})


def say_missing(conditions: "Sequence[Condition]", shown: bool, masked: bool = True) -> None:
    """Say how many training images lack a mask (of a model that takes them) or a text; none is left out for it."""
    from medloom.core.progress import say

    for part in ("mask", "text") if masked else ("text",):
        without = sum(not getattr(condition, part) for condition in conditions)
        if shown and without:
            say(f"{without} of {len(conditions)} training images have no {part}; they are used without it.")


def diffusion_index(generator: "DiffusionGenerator") -> dict[str, Any]:
    """What index.json says of a diffusion generator: the classes of its components, and what exports it."""
    from medloom.generators.diffusion.storage import pipeline_of

    model = generator.model
    components = {"text": model.text.model, "condition": model.condition, "denoiser": model.denoiser}
    if generator.autoencoder is not None:
        components["autoencoder"] = generator.autoencoder.vae
    return {
        "components": {name: type(part).__name__ for name, part in components.items() if part is not None},
        "exporter": f"diffusers.{pipeline_of(generator)}" if generator.exportable else None,
    }


def measured_columns(table: Sequence[str], data: Path, prepared: "Prepared") -> "tuple[TableColumn, ...]":
    """The columns of --table, as the training rows of the manifest `data` have them.

    Raises:
        UserError: see `measure_columns`.
    """
    from medloom.data.prompts import read_template, template_beside
    from medloom.data.table_columns import measure_columns

    beside = template_beside(data)
    template = read_template(beside) if table and beside is not None else None
    return measure_columns(table, prepared.train.samples, template, str(data))


def readable(prepared: "Prepared", generator: "ConditionedGenerator", data: Path, shown: bool) -> "Prepared":
    """The data less the validation rows whose table holds what no training row has.

    Raises:
        UserError: a training row with such a table, in a run that goes on from another.
    """
    from medloom.core.progress import say

    if generator.model.condition is None:
        return prepared
    reasons = [generator.table_refusal(sample.condition) for sample in prepared.train.samples]
    for sample, reason in zip(prepared.train.samples, reasons, strict=True):
        if reason is not None:
            raise UserError(f"{data}, line {sample.line}: {reason}")
    source = prepared.validation
    kept = [sample for sample in source.samples if generator.table_refusal(sample.condition) is None]
    if len(kept) == len(source.samples):
        return prepared
    if shown:
        say(f"{len(source.samples) - len(kept)} validation rows are not used: their table has values new to training.")
    key = {**source.key, "lines": [sample.line for sample in kept]}
    return replace(prepared, validation=replace(source, samples=kept, key=key))


def renderer(prepared: "Prepared", masked: bool = False) -> "Callable[[ConditionedGenerator, Path, int], None]":
    """Draws the same held-out conditions with the same seeds at each validation.

    Args:
        prepared: the data; training rows are drawn where none is held out.
        masked: leave out rows without a mask.
    """
    from medloom.generators.preparation import spread

    def drawn(source: "ImageSource") -> "list[Sample]":
        return [sample for sample in source.samples if sample.condition.mask or not masked]

    source = prepared.validation if drawn(prepared.validation) else prepared.train
    samples = drawn(source)
    chosen = spread(samples, [str(sample.condition.modality) for sample in samples], FIXED_CONDITIONS)

    def render(generator: "ConditionedGenerator", out: Path, step: int) -> None:
        from medloom.core.plots import save_grid

        conditions = [samples[index].condition for index in chosen]
        readers: dict[str, Any] = {"read_mask": source.label_map}
        if "prior" in generator.parts:
            readers["read_prior"] = source.prior_image
        images = generator.generate(conditions, range(len(chosen)), **readers)
        save_grid(out / f"step-{step:08d}.png", list(images.numpy()), 4, f"after {step} steps")

    return render
