"""From requests to files: batches over all processes, provenance in every image, and a manifest."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.cells import plain_number
from medloom.core.errors import UserError
from medloom.core.files import hash_json, relative_path
from medloom.core.image import Image
from medloom.core.lookup import did_you_mean, look_up
from medloom.core.output_folder import held_by_main
from medloom.core.plots import flat
from medloom.core.progress import progress, say
from medloom.data.images import read_image
from medloom.data.tables import write_csv
from medloom.generation.geometry import located
from medloom.generation.kept_images import (
    BY_IMAGE,
    depends_on,
    describe,
    forget_without_images,
    missing_images,
    require_described,
    require_same_kind,
    stated_options,
)
from medloom.generation.options import GenerationOptions, name_values
from medloom.generation.previews import watch_of
from medloom.generation.requests import Request
from medloom.generators.base import AnyGenerator
from medloom.generators.generated_images import FORMATS, HEADER, TEXT, GeneratedImage, manifest_row, suffix_of
from medloom.generators.run_folder import RunFolder
from medloom.generators.sampling import SamplingOptions, guided
from medloom.generators.storage import load, open_generator

# An image that is not generated yet.
BLANK = Image(np.zeros((1, 1, 1), np.float32), "")


@dataclass(frozen=True)
class LoadedModel:
    """A trained model with the options of one command.

    Attributes:
        options: of the command.
        run: the run folder.
        generator: the model.
    """

    options: GenerationOptions
    run: RunFolder
    generator: AnyGenerator

    @property
    def sampling(self) -> SamplingOptions:
        """The options as the model's family takes them; its defaults where none were given.

        Raises:
            UserError: an option that the family does not have.
        """
        options, default = self.options, self.generator.sampling
        if options.estimates and default.guidance is not None:
            default = replace(default, guidance=1.0, guidance_by_part={})
        named = {"steps": options.steps, "negative": options.negative, "sampler": options.sampler}
        given: dict[str, object] = {name: value for name, value in named.items() if value is not None}
        known = {entry.name: getattr(default, entry.name) for entry in fields(default)}
        for name, value in name_values("--sampling", options.sampling).items():
            given[name] = _like(f"--sampling {name}", value, known.get(name))
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known) if name in name_values("", options.sampling) else ""
                raise UserError(
                    f"--{name}: the model {options.model} is of the family {self.generator.family}, which has none"
                    f"{hint}; leave it out."
                )
        asked: SamplingOptions = replace(default, **given)
        return guided(asked, options.guidance)


def load_model(options: GenerationOptions) -> LoadedModel:
    """Load the model on the device of the options.

    Raises:
        UserError: no such device, or not a run folder of a generator.
    """
    generator = load(options.model, options.device, options.unit)
    return LoadedModel(options, open_generator(options.model), generator)


def produce(
    model: LoadedModel,
    requests: Sequence[Request],
    file: str,
    facts: Mapping[str, object] | None = None,
    allow_unseen: bool = False,
    without: frozenset[str] = frozenset(),
    total: int | None = None,
) -> str:
    """Generate the images that are not there yet, over all processes; returns the ending of their files.

    An image that is there is taken for the one that is asked for only if its file says so: by its model, its seed, and
    hashes of its whole condition and of all options that it depends on.

    Args:
        model: the model.
        requests: what to generate, in an output folder of this command.
        file: JSON file in the folder that says what it holds, e.g. generation.json.
        facts: what it says besides the model and the options.
        allow_unseen: see `ImageGenerator.check`.
        without: see `ImageGenerator.check`.
        total: how many images the folder will have, where `requests` are some of them.

    Raises:
        UserError: a condition that the model cannot follow, a sampler or format that does not fit, or --out that holds
            something else.
    """
    from accelerate import PartialState

    options, generator, sampling = model.options, model.generator, model.sampling
    conditions = [request.condition for request in requests]
    generator.check(conditions, sampling, options.edit, options.framing, allow_unseen, without)
    state = PartialState(cpu=options.device == "cpu")
    if state.is_main_process:
        # Several images of a row, in several arms, lack the same.
        rows = {request.origin.source: request.condition for request in reversed(requests)}
        for remark in (*generator.cut_texts(conditions, sampling), *generator.rules.remarks([*rows.values()], "rows")):
            say(remark)
    generator.to(state.device)
    suffix = file_suffix(model, requests)
    facts = {"SYNTHETIC": "YES", "model": generator.model_hash, **(facts or {})}
    given = stated_options(options, {"steps": sampling.steps, "guidance": _scales(sampling)})
    if state.is_main_process:
        require_same_kind(options, file, facts, given)
    state.wait_for_everyone()
    depends = depends_on(options, sampling, without)
    # Every table, folder and number of images has studies of its own by what the images depend on, not by their names.
    call = [generator.model_hash, depends, {name: value for name, value in given.items() if name not in BY_IMAGE}]
    series = _series(requests, hash_json(call)) if suffix == FORMATS["dicom"] else {}
    wanted = {
        request.number: GeneratedImage(
            BLANK,
            request.condition,
            request.seed,
            generator.model_hash,
            hash_json([depends, series.get(request.number)]),
        )
        for request in requests
    }
    todo = missing_images(options, requests, wanted, suffix, total or len(requests))
    if state.is_main_process:
        describe(options, file, facts, given)
    # All processes divide the same list: none may write before each has looked at what is there.
    state.wait_for_everyone()
    # Images of their mask's size are generated one by one, and a batch of them would be lost together.
    size = 1 if generator.spec.patch and not options.crops else options.batch
    # A batch of which some images are there is generated again as a whole: how sums are rounded depends on its size.
    missing = {request.number for request in todo}
    batches = [requests[start : start + size] for start in range(0, len(requests), size)]
    batches = [batch for batch in batches if any(request.number in missing for request in batch)]
    full, done = options.provenance == "full", len(requests) - len(todo)
    with progress("generating", len(requests), "images", done, state.is_main_process) as advance:
        for batch in batches[state.process_index :: state.num_processes]:
            # All conditions were checked at once above; `generate` would read their files again for each batch.
            asked = [(request.origin.source, request.condition, request.seed) for request in batch]
            # An arm that says what the row says already is the factual image, which is made once.
            distinct = [place for place, each in enumerate(asked) if each not in asked[:place]]
            conditions = [located(generator.reader, batch[place]) for place in distinct]
            seeds = [batch[place].seed for place in distinct]
            with generator.watched(watch_of([batch[place] for place in distinct])):
                images = generator.images(conditions, seeds, sampling, options.edit, options.framing)
            for request, each in zip(batch, asked, strict=True):
                if request.number not in missing:
                    continue
                image = replace(images[distinct.index(asked.index(each))], series=series.get(request.number))
                made = replace(wanted[request.number], image=image)
                made.save(options.out / f"{request.sample_id}{suffix}", full)
            made_now = sum(request.number in missing for request in batch)
            advance(min(made_now * state.num_processes, len(requests)))
    state.wait_for_everyone()
    return suffix


@contextmanager
def images_folder(options: GenerationOptions, file: str) -> Iterator[None]:
    """The output folder of images within a block; of several processes the main one holds it.

    A block that is refused before the first image leaves nothing that would bind the corrected command.

    Args:
        options: name it.
        file: JSON file in the folder that says what it holds.

    Raises:
        UserError: it holds something else, or images without that file.
    """
    from accelerate import PartialState

    state = PartialState(cpu=options.device == "cpu")
    if state.is_main_process:
        require_described(options.out, file)
    with held_by_main(options.out, file, state):
        try:
            yield
        except UserError:
            if state.is_main_process and options.out.is_dir():
                forget_without_images(options.out, file)
            raise


def is_main_process() -> bool:
    """Whether this process writes what there is one of, and talks to the user."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def file_suffix(model: LoadedModel, requests: Sequence[Request]) -> str:
    """The ending of the images' files.

    Raises:
        UserError: a format that cannot hold the values.
    """
    spec, reader = model.generator.spec, model.generator.reader
    units = {spec.of(reader.modality(request.condition)).output_unit for request in requests}
    return suffix_of(model.options.format, units, spec.spatial_dims)


def write_manifest(
    path: Path, requests: Sequence[Request], suffix: str, further: Sequence[str], with_text: bool
) -> None:
    """Write the manifest of the images, with their prior images.

    Args:
        path: of the manifest.
        requests: the images.
        suffix: of their files.
        further: names the columns of the requests' cells.
        with_text: write texts that come from a table too; those of the command line are written always.
    """
    with_text = with_text or all(request.origin.row is None for request in requests)
    priors = [request.condition.prior_file for request in requests]
    with_priors = any(priors) and "prior" not in further
    rows = [
        [
            *manifest_row(
                request.sample_id,
                suffix,
                request.condition,
                request.seed,
                request.origin.source,
                request.origin.patient,
                (request.arm, request.attribute, request.value),
            ),
            *([request.condition.text] if with_text else []),
            *([relative_path(prior, path.parent)] if with_priors else []),
            *map(plain_number, request.cells),
        ]
        for request, prior in zip(requests, priors, strict=True)
    ]
    header = [*HEADER, *([TEXT] if with_text else []), *(["prior"] if with_priors else []), *further]
    write_csv(path, header, rows)


def previews(model: LoadedModel, requests: Sequence[Request], suffix: str) -> Iterator[NDArray[np.float32]]:
    """Images as written, float32 `(C, *spatial)`, brought back to [-1, 1]."""
    spec = model.generator.spec
    for request in requests:
        intensity = spec.of(model.generator.reader.modality(request.condition))
        image = read_image(model.options.out / f"{request.sample_id}{suffix}")
        low, high = intensity.low, intensity.high
        if intensity.kind == "percentile":
            low, high = 0.0, image.full_scale if suffix == ".png" else 1.0
        scaled = (image.pixels - low) / (high - low) * 2 - 1
        # A slice that was written as a volume is one again.
        yield flat(scaled, 0) if scaled.ndim == 4 and spec.spatial_dims == 2 else scaled


def _series(requests: Sequence[Request], call: str) -> dict[int, tuple[str, str, int]]:
    """The DICOM study, series and place in it of each request: a study per row, in it a series per arm.

    Args:
        requests: of a call.
        call: hash of the model and the options.
    """
    places: Counter[tuple[str, str]] = Counter()
    found = {}
    for request in requests:
        study = f"{call} {request.origin.study(request.condition)}"
        places[study, request.arm] += 1
        found[request.number] = (study, request.arm, places[study, request.arm])
    return found


def _scales(sampling: SamplingOptions) -> list[str]:
    """The guidance scales as words of --guidance; none of a model without guidance."""
    common = [] if sampling.guidance is None else [str(float(sampling.guidance))]
    return common + [f"{part}={scale}" for part, scale in sorted(sampling.guidance_by_part.items())]


def _like(option: str, value: str, default: object) -> object:
    """A word as a value of the default's type."""
    if isinstance(default, bool):
        return look_up({"true": True, "false": False}, value.casefold(), option)
    kind = type(default) if isinstance(default, int | float) else str
    try:
        return kind(value)
    except ValueError:
        raise UserError(f"{option}={value}: give a number, as {default}.") from None
