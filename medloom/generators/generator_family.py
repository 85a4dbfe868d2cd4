"""What training has in common for all families that generate images: masks, caches, rendering, and continuing a run."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.mask_spec import MaskSpec
from medloom.core.options import flag_of
from medloom.core.plots import flat
from medloom.core.progress import say
from medloom.core.sheets import tile_grid
from medloom.core.tile_texts import MARK, caption_of, window_note
from medloom.core.tiles import Tile
from medloom.core.types import DAYS, Condition, Sample
from medloom.data.dataset import ImageSource
from medloom.data.padding import TrainingExtents
from medloom.data.patches import PatchRules
from medloom.generators.base import AnyGenerator
from medloom.generators.days_between import with_days
from medloom.generators.family import Family, Origin
from medloom.generators.options import GeneratorOptions, VolumeOptions
from medloom.generators.preparation import Prepared, spread, with_masks, with_samples
from medloom.generators.row_caches import RowCaches
from medloom.generators.run_folder import Components, open_run, runs_among
from medloom.generators.sampling import Edit, SamplingSettings
from medloom.generators.storage import load_generator
from medloom.generators.training_data import TrainingData, repeats, spread_rows
from medloom.generators.training_facts import TrainingFacts, read_facts, read_masks
from medloom.generators.training_record import TrainingRecord
from medloom.generators.unused_options import Unused, flat_options
from medloom.networks.text import LOCAL

if TYPE_CHECKING:
    from accelerate import Accelerator


Options = TypeVar("Options", bound=GeneratorOptions)
Trained = TypeVar("Trained", bound="AnyGenerator")
Coder = TypeVar("Coder")
Render = Callable[[Any, Path, int], None]

# Conditions that are rendered at each validation; patches by the number of axes, since volumes are slow to generate.
FIXED_CONDITIONS = 16
# Options of what a run to continue brings.
BROUGHT = ("network", "noise", "text", "autoencoder", "classes", "hide_classes", "resample_masks")
FIXED_PATCHES = {2: 16, 3: 4}


class GeneratorFamily(Family[Options, Trained], Generic[Options, Trained, Coder]):
    """A family of image generators; `Coder` is its autoencoder or tokenizer, None where it generates pixels."""

    # Options of BROUGHT that a run to continue takes anew.
    chosen_anew: ClassVar[tuple[str, ...]] = ("text.dropout", "text.learning_rate_factor")

    @abstractmethod
    def mask_labels(self, options: Options) -> tuple[int, ...] | None:
        """Labels of mask classes that the user named, empty where the masks say them; None for a model without."""

    @abstractmethod
    def prepare_space(self, options: Options, data: Prepared, origin: Origin) -> tuple[Prepared, Coder]:
        """The data in the channels that the autoencoder or tokenizer takes, and that one; None where there is none."""

    @abstractmethod
    def fresh(self, options: Options, data: Prepared, facts: TrainingFacts, coder: Coder, origin: Origin) -> Trained:
        """A generator with fresh weights, or those of a published model."""

    @abstractmethod
    def continued(
        self, options: Options, data: Prepared, facts: TrainingFacts, coder: Coder, known: Trained
    ) -> Trained:
        """The generator of a run that is continued, for these data."""

    def may_leave_unused(self, options: Options) -> bool:
        """Without cross-attention the text's tokens go nowhere; only its pooled vector does."""
        return True

    def origin(self, options: Options) -> Origin:
        """A run that is continued, if any; its image space is kept."""
        parents = runs_among(options.from_run, options.text.encoder, *self.parent_options(options))
        if options.from_run is None:
            return Origin(parents)
        run = open_run(options.from_run, (self.name,), "--from")
        known = load_generator(run.model)
        before = dict(flat_options(run.description()["identity"]["options"]))
        return Origin(parents, known, space=known.spec, extends=known.spec, options=before)

    def unused(self, options: Options, origin: Origin) -> Sequence[Unused]:
        """See Family: those of the parts that a run to continue brings, and of parts that are not there."""
        text = options.text
        if origin.model is not None:
            return [Unused(BROUGHT, "the run of --from brings its own", origin.options, self.chosen_anew)]
        found = [Unused(("unregistered",), "this model takes no prior image")] if not self.takes_priors(options) else []
        if text.encoder == LOCAL:
            found.append(Unused(("text.train",), "a local text encoder is always trained", {"text.train": True}))
        else:
            own = ("text.vocabulary", "text.width", "text.layers")
            found.append(Unused(own, "the encoder of --text.encoder brings its own"))
            if not text.train:
                found.append(
                    Unused(("text.learning_rate_factor",), "the text encoder is trained with --text.train only")
                )
        if isinstance(options, VolumeOptions):
            if options.patch:
                found.append(Unused(("image_size",), "--patch is the size that is trained on"))
            else:
                found.append(Unused(("foreground",), "it draws patches, which --patch asks for"))
        return found

    def takes_priors(self, options: Options) -> bool:
        """Whether the model takes prior images."""
        return False

    def described(self, options: Options, trained: Trained) -> Options:
        """See Family: with the columns of the table that the model has."""
        return replace(options, table=tuple(column.name for column in trained.columns))

    def completed(self, options: Options, data: Prepared, origin: Origin, verbose: bool) -> Options:
        """See Family: an editor is conditioned on the days between its two images."""
        return with_days(options, data, origin.model, verbose)

    def build(self, options: Options, data: Prepared, origin: Origin, verbose: bool) -> tuple[Prepared, Trained]:
        """See Family: masks, what conditions the images, the coder, and the generator."""
        given = self.mask_labels(options)
        known: Trained | None = origin.model
        earlier = None if known is None else known.trained_on
        if known is not None:
            masks = known.masks
        else:
            masks = _no_masks(options) if given is None else read_masks(options, data, given, verbose)
        facts = read_facts(options, data, masks, verbose)
        data, coder = self.prepare_space(options, data, origin)
        if known is not None:
            generator = self.continued(options, data, _new_columns(options, facts, known), coder, known)
            if facts.padded:
                generator.learn_padding()
        else:
            generator = self.fresh(options, data, facts, coder, origin)
            generator.reads_text = generator.takes_text and facts.has_text
            if generator.model.prior_channels:
                # An edit shows how much changes, which guidance exaggerates.
                generator.sampling = replace(generator.sampling, guidance=1.0)
        generator.masks = masks if masks.names else generator.masks
        data = _readable(options, with_masks(data, generator.masks), generator, verbose)
        record = self.record(options, data, generator)
        # Of a run that kept no record it is not known what its images had.
        generator.remember(record if known is None else earlier and record.after(earlier))
        generator.extents = _extents_of(facts, generator, None if known is None else known.extents, verbose)
        sampling = self.sampling(options).applied(generator.sampling)
        if sampling != generator.sampling:
            generator.check_sampling(sampling)
        generator.sampling = sampling
        return data, generator

    def sampling(self, options: Options) -> SamplingSettings:
        """How the run generates images unless asked otherwise."""
        return SamplingSettings()

    def record(self, options: Options, data: Prepared, trained: Trained) -> TrainingRecord:
        """What the training images have."""
        conditions = [sample.condition for sample in data.train.samples]
        return TrainingRecord.of(conditions, trained.columns, self.meets_empty_condition(options))

    def meets_empty_condition(self, options: Options) -> bool:
        """Whether the network is trained on the empty condition too, which guidance compares with."""
        return options.text.dropout > 0

    def caches(
        self, options: Options, data: Prepared, generator: Trained, accelerator: "Accelerator"
    ) -> tuple[TrainingData, TrainingData, Render]:
        """Training and validation rows from the caches, and what renders the fixed validation conditions."""
        rules = None
        if data.spec.patch:
            given = (getattr(options, name) for name in ("foreground", "augment", "flip"))
            rules = PatchRules(data.spec, *given)
        caches = RowCaches(options.cache_folder, options.skip_bad, generator, accelerator, rules, options.unregistered)
        train, validation = caches.data(data.train), caches.data(data.validation)
        train = replace(train, shift=getattr(options, "shift", 0))
        if rules is None:
            return train, validation, _renderer(data, bool(generator.model.mask_classes))
        rendered = _masked(validation) or _masked(train) or train
        batch = options.loop.batch // options.loop.accumulate
        return train, validation, _patch_renderer(rendered, options.loop.seed, batch)

    def components(self, trained: Trained) -> Components:
        """The classes of the networks."""
        model = trained.model
        parts = {"text": model.text.model, "condition": model.condition, **self.own_components(trained)}
        return Components({name: type(part).__name__ for name, part in parts.items() if part is not None})

    @abstractmethod
    def own_components(self, trained: Trained) -> dict[str, Any]:
        """The networks other than the encoders, by name."""

    def parent_options(self, options: Options) -> tuple[Path | str | None, ...]:
        """Further options that may name a run to start from."""
        return ()


def _extents_of(
    facts: TrainingFacts, generator: AnyGenerator, earlier: TrainingExtents | None, verbose: bool
) -> TrainingExtents | None:
    """What part of the frame the training images fill, with those of a run that is continued; None without padding.

    Says how many images are padded where the model cannot be given where.
    """
    extents = facts.extents
    if extents is None:
        return earlier
    if verbose and extents.padded and extents.differ and not generator.takes_positions:
        say(
            f"{extents.padded} of {extents.images} training images are padded to the model's shape, and this model"
            " cannot be given where: some of its images will have such borders. Give --resize crop, to a tokenizer or"
            " autoencoder too, or images of one shape."
        )
    extents = extents.after(earlier)
    return extents if extents.padded else None


def _new_columns(options: GeneratorOptions, facts: TrainingFacts, known: AnyGenerator) -> TrainingFacts:
    """The facts with the columns alone that a run to continue is not conditioned on yet: the days of its images.

    Raises:
        UserError: --table names other columns than the run's.
    """
    columns = [column.name for column in known.columns]
    # The days are given by default, to each of the two runs or to one of them.
    given, has = ([name for name in names if name != DAYS] for names in (options.table, columns))
    if given and given != has:
        raise UserError(
            f"--table {' '.join(given)}: the run of --from is conditioned on {', '.join(columns) or 'no columns'}; give"
            " the same ones, or leave it out."
        )
    return replace(facts, columns=[column for column in facts.columns if column.name not in columns])


def _no_masks(options: GeneratorOptions) -> MaskSpec:
    """The classes of a model that takes no masks.

    Raises:
        UserError: an option that says how masks are read.
    """
    for name in ("classes", "hide_classes", "resample_masks"):
        if getattr(options, name):
            raise UserError(
                f"{flag_of(name)}: the network takes no masks; give --network.mask channels, or leave it out."
            )
    return MaskSpec()


def _readable(options: GeneratorOptions, data: Prepared, generator: AnyGenerator, verbose: bool) -> Prepared:
    """The data less the validation rows whose table holds what no training row has.

    Raises:
        UserError: a training row with such a table, in a run that continues another.
    """
    for sample in data.train.samples:
        if reason := generator.table_refusal(sample.condition):
            raise UserError(f"{options.data}, line {sample.line}: {reason}")
    source = data.validation
    kept = [sample for sample in source.samples if generator.table_refusal(sample.condition) is None]
    if len(kept) == len(source.samples):
        return data
    if verbose:
        say(f"{len(source.samples) - len(kept)} validation rows are left out: their table has values new to training.")
    return replace(data, validation=with_samples(source, kept))


def _masked(data: TrainingData) -> TrainingData | None:
    """The rows with masks, or None where there are none."""
    usable = [row for row in data.usable if data.conditions[row].mask is not None]
    return replace(data, usable=usable) if usable else None


def _renderer(data: Prepared, masked: bool) -> Render:
    """Renders the same held-out conditions with the same seeds at each validation.

    Args:
        data: training rows are rendered where none is held out.
        masked: leave out rows without a mask, where there are others.
    """

    def rendered(source: ImageSource) -> list[Sample]:
        return [sample for sample in source.samples if sample.condition.mask or not masked]

    samples = rendered(data.validation) or rendered(data.train) or list(data.train.samples)
    chosen = spread(samples, [str(sample.condition.modality) for sample in samples], FIXED_CONDITIONS)

    def render(generator: AnyGenerator, out: Path, step: int) -> None:

        conditions = [samples[index].condition for index in chosen]
        images = generator.sample(conditions, range(len(chosen)), edit=generator.with_region(Edit()))
        _save_samples(out, step, generator, conditions, list(images.numpy()))

    return render


def _patch_renderer(data: TrainingData, seed: int, batch: int) -> Render:
    """Renders the same patches of held-out images with the same seeds at each validation.

    Args:
        data: the rows that are rendered.
        seed: of the run: it says where the patches lie.
        batch: patches at a time.
    """

    def render(generator: AnyGenerator, out: Path, step: int) -> None:

        count = FIXED_PATCHES[generator.spec.spatial_dims]
        rows = [data.usable[place] for place in spread_rows(len(data.usable), count)]
        rows = (rows * count)[:count]
        crops = data.draw_crops(seed, "drawn", rows, repeats(rows)) or []
        images, shown = list[NDArray[np.float32]](), list[Condition]()
        for start in range(0, count, batch):
            part, cut = rows[start : start + batch], crops[start : start + batch]
            labels, positions = data.label_maps(part, cut), data.positions(part, cut)
            if labels is None or positions is None:
                raise ValueError("patches are rendered for masks, and the data have none")
            seeds = range(start, start + len(part))
            conditions = data.conditions_of(part, cut)
            images += list(generator.sample_patches(conditions, seeds, labels, positions).numpy())
            shown += conditions
        _save_samples(out, step, generator, shown, images)

    return render


def _save_samples(
    out: Path,
    step: int,
    generator: AnyGenerator,
    conditions: Sequence[Condition],
    images: Sequence[NDArray[np.float32]],
) -> None:
    """Write the images `(C, *size)` of a validation with what they were asked to show; the k-th has seed k."""
    reader, columns = generator.reader, [column.name for column in generator.columns]
    tiles = []
    for seed, (condition, image) in enumerate(zip(conditions, images, strict=True)):
        # Of the table only what the model is given.
        given = replace(condition, table={name: condition.table.get(name) for name in columns})
        tiles.append(Tile(flat(image), caption_of(given, f"seed {seed}")))
    note = window_note(reader.spec.intensity, [reader.modality(condition) for condition in conditions])
    sheet = tile_grid(f"{MARK}: generated after {step} training steps", tiles, [note], columns=4)
    sheet.save(out / f"step-{step:08d}.png", note=f"after {step} steps")
