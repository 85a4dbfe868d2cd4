"""What generate and whatif share: jobs, and images made from them in batches, with provenance, manifest and grid."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.core.seeds import MAX_SEED, check_seed
from medloom.core.types import PARTS, Condition, Sample
from medloom.data.options import ManifestOptions
from medloom.data.prompts.arms import FACTUAL

if TYPE_CHECKING:
    from medloom.data.manifest import Manifest
    from medloom.generation.drawing import Drawing
    from medloom.generators.run_folder import RunFolder

FORMATS = {"png": ".png", "tiff": ".tiff", "dicom": ".dcm", "nifti": ".nii.gz", "nrrd": ".nrrd", "mhd": ".mhd"}
LABEL_COLUMNS = ("label", "finding", "class")
HEADER = ("sample_id", "path", "source_id", "arm", "attribute", "value", "seed", "patient", "text", "modality", "view")
GRID_IMAGES = 64
GRID_COLUMNS = 8
# What may differ when a folder is gone on with: where things lie and run, not what is made.
FREE = ("out", "device", "batch", "windows", "model")
# Options of a sampler; starts are of edits.
SAMPLED = (
    "steps",
    "guidance",
    "sampler",
    "negative",
    "start",
    "strength",
    "residual",
    "temperature",
    "annealing",
    "top_k",
    "top_p",
    "cutoff",
    "remasking",
    "mask_schedule",
    "guidance_schedule",
    "precision",
)
# What an option has that was not given, where that is not None.
UNSAID = {"start": "noise", "strength": 1.0, "residual": False}
# Texts of a condition, of which only a hash is written unless provenance is full.
TOLD = ("prompt", "negative")


@dataclass(frozen=True, kw_only=True)
class MakingOptions(ManifestOptions):
    """How images are made.

    Attributes:
        model: run folder.
        out: folder for the images and their manifest.csv.
        n: images a prompt, or a row.
        seed: of the first image; the k-th has seed + k, and looks the same in any batch and number of processes.
        steps: steps of the sampler (default: 20 for diffusion, 8 for tokens; a GAN has no sampler).
        guidance: how strongly the condition is followed; 1 is no guidance (default: 2; a GAN has none).
        guidance_mask: in place of `guidance`, for the mask.
        guidance_prior: in place of `guidance`, for the earlier image of an editor.
        guidance_modality: in place of `guidance`, for modality and view.
        guidance_table: in place of `guidance`, for the columns of the clinical table.
        guidance_text: in place of `guidance`, for the text.
        negative: what the images should not show.
        sampler: name of a sampler; the default fits the model.
        temperature: of tokens: above 1 for more variety, below for less (default: 1).
        annealing: of tokens: share of the temperature that is taken away over the steps (default: 0).
        top_k: of tokens: most likely codes that a draw chooses from (default: 0, all).
        top_p: of tokens: least probability of the codes that a draw chooses from (default: 1, all).
        cutoff: of tokens: codes less likely than this share of an even chance are not drawn (default: 0.3, three times
            what label smoothing gives to each; 0 for none).
        remasking: of tokens: temperature of the noise by which tokens are masked again (default: 4.5).
        mask_schedule: of tokens: how many stay masked: cosine, linear, square or root (default: cosine).
        precision: of tokens: fp32, in which an image does not depend on its batch, or bf16, faster (default: fp32).
        guidance_schedule: of tokens: constant, or linear, which grows to the whole scale (default: constant).
        batch: images at a time.
        whole: make images of their mask's size, any size, from overlapping windows that are blended at each step; a
            model that was trained on patches (`train mask2image --patch`) does so unless --crops is given.
        crops: of such a model, make one patch an image, about a place of the mask that is a function of the seed.
        overlap: of whole images: least share of a window's axis that neighbours share.
        windows: of whole images: windows at a time.
        format: auto, png, tiff, dicom, nifti, nrrd or mhd; auto is PNG, or DICOM (NIfTI in 3-D) for values in HU.
        provenance: hash, or full, which writes the condition's text into every file.
        keep: clinical columns of `data` to carry into the manifest.
        device: auto, cpu or cuda.
    """

    model: Path
    out: Path
    n: int = 1
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    guidance_mask: float | None = None
    guidance_prior: float | None = None
    guidance_modality: float | None = None
    guidance_table: float | None = None
    guidance_text: float | None = None
    negative: str | None = None
    sampler: str | None = None
    temperature: float | None = None
    annealing: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    cutoff: float | None = None
    remasking: float | None = None
    mask_schedule: str | None = None
    guidance_schedule: str | None = None
    precision: str | None = None
    batch: int = 16
    whole: bool = False
    crops: bool = False
    overlap: float = 0.25
    windows: int = 2
    format: str = "auto"
    provenance: str = "hash"
    keep: tuple[str, ...] = LABEL_COLUMNS
    device: str = "auto"


@dataclass(frozen=True)
class Origin:
    """Where an image's condition comes from: hashes of the row and of the patient, salted by the table."""

    source: str = ""
    patient: str = ""


@dataclass(frozen=True)
class Job:
    """One image to make.

    Attributes:
        number: of the image in the folder.
        condition: what it should show.
        seed: of all its noise.
        origin: where the condition comes from.
        cells: of the manifest's further columns.
        arm: `factual`, or what was changed.
        attribute: the columns that were changed.
        value: what they were changed to.
    """

    number: int
    condition: Condition
    seed: int
    origin: Origin
    cells: tuple[Any, ...] = ()
    arm: str = FACTUAL
    attribute: str | None = None
    value: str | None = None

    @property
    def sample_id(self) -> str:
        """The image's name; nothing of a table is in it."""
        return f"{self.number:06d}"


@dataclass(frozen=True)
class Maker:
    """A trained model, ready to make images."""

    options: MakingOptions
    run_folder: "RunFolder"
    generator: Any

    @property
    def sampling(self) -> Any:
        """The options as the model's family takes them; its defaults where none were given.

        Raises:
            UserError: an option that the family does not have.
        """
        from medloom.generators.registry import SAMPLING

        options, family = self.options, self.generator.family
        parts = {part: getattr(options, f"guidance_{part}") for part in PARTS}
        given = {name: getattr(options, name, None) for name in SAMPLED}
        given = {name: value for name, value in given.items() if value not in (None, UNSAID.get(name))}
        taken = SAMPLING[family]
        known = [entry.name for entry in fields(taken)]
        if unknown := [name for name in given if name not in known]:
            spoken = unknown[0].replace("_", "-")
            raise UserError(
                f"--{spoken}: the model {options.model} is of the family {family}, which has none; leave it out."
            )
        by_part = {part: scale for part, scale in parts.items() if scale is not None}
        return taken(**given, guidance_by_part=by_part)

    @property
    def drawing(self) -> "Drawing":
        """How images are drawn."""
        from medloom.generation.drawing import Drawing

        options = self.options
        region, blind = getattr(options, "region", None), getattr(options, "text_only", False)
        return Drawing(
            self.generator,
            self.sampling,
            options.whole,
            options.crops,
            options.overlap,
            options.windows,
            region,
            options.unit,
            blind,
        )

    @property
    def resolved(self) -> MakingOptions:
        """The options with the family's defaults in place of what was not given."""
        return replace(self.options, steps=self.sampling.steps, guidance=self.sampling.guidance)


def check_making(options: MakingOptions) -> None:
    """Refuse values out of range.

    Raises:
        UserError: the first of them.
    """
    from medloom.core.lookup import look_up

    counts = {"--n": options.n, "--batch": options.batch, "--windows": options.windows, "--steps": options.steps}
    given = {name: count for name, count in counts.items() if count is not None}
    if min(given.values()) < 1:
        raise UserError(f"{', '.join(f'{name} {count}' for name, count in given.items())}: each is at least 1.")
    check_seed(options.seed)
    if not 0 <= options.overlap < 1:
        raise UserError(f"--overlap {options.overlap}: a share of a window, from 0 to below 1.")
    if options.format != "auto":
        look_up(FORMATS, options.format, "--format")
    if options.provenance not in ("hash", "full"):
        raise UserError(f"--provenance {options.provenance}: allowed are hash, full.")


def load_maker(options: MakingOptions) -> Maker:
    """Load the model.

    Raises:
        UserError: no such device, or not a run folder of a generator.
    """
    from medloom.generators.registry import load_run
    from medloom.training.loop import check_device

    check_device(options.device)
    return Maker(options, *load_run(options.model))


def read_conditions(options: MakingOptions, data: Path, need: Sequence[str]) -> "Manifest":
    """The manifest of conditions, whose images need not be there; says what was left out of it."""
    from medloom.core.progress import say
    from medloom.data.manifest import read_manifest

    manifest = read_manifest(
        data,
        named=options.columns,
        images_are_patients=options.images_are_patients,
        skip_bad=options.skip_bad,
        need=need,
        need_patients=False,
    )
    for note in manifest.notes:
        say(note)
    return manifest


def kept_columns(options: MakingOptions, manifest: "Manifest") -> list[str]:
    """The clinical columns to carry along.

    Raises:
        UserError: one that was asked for and is not there.
    """
    kept = [name for name in options.keep if name in manifest.clinical_columns]
    if missing := [name for name in options.keep if name not in kept and name not in LABEL_COLUMNS]:
        raise UserError(f"--keep: {manifest.source} has no clinical column {missing[0]!r}.")
    return kept


def origins(data: Path, samples: Sequence[Sample]) -> list[Origin]:
    """Where the images of some rows come from, without saying whose they are."""
    from medloom.core.files import hash_file, hash_text

    salt = hash_file(data)
    return [Origin(hash_text(f"{salt}{sample.row}"), hash_text(f"{salt}{sample.patient}")) for sample in samples]


def check_seeds(options: MakingOptions, images: int) -> None:
    """Refuse a seed from which so many cannot be counted.

    Raises:
        UserError: the last seed would pass 63 bits.
    """
    if options.seed + images - 1 > MAX_SEED:
        raise UserError(f"--seed {options.seed} with {images} images passes {MAX_SEED}; take a smaller one.")


def make_images(maker: Maker, jobs: Sequence[Job], file: str, more: Mapping[str, Any] | None = None) -> str:
    """Make the images that are not there yet, over all processes; returns the ending of their files.

    Args:
        maker: the model.
        jobs: what to make.
        file: JSON file in the folder that says what it holds, e.g. generation.json.
        more: what it says besides the model and the options.

    Raises:
        UserError: a condition that the model cannot follow, a sampler or format that does not fit, or --out that holds
            something else.
    """
    from accelerate import PartialState

    from medloom.core.files import claim_output
    from medloom.core.progress import progress

    options, generator = maker.options, maker.generator
    generator.check_conditions([job.condition for job in jobs])
    generator.check_sampling(maker.sampling)
    maker.drawing.check([job.condition for job in jobs])
    state = PartialState(cpu=options.device == "cpu")
    generator.to(state.device)
    suffix = suffix_of(options.format, generator.spec, jobs)
    model = maker.run_folder.model_hash()
    if state.is_main_process:
        claim_output(options.out, file)
        _describe(maker.resolved, file, {"SYNTHETIC": "YES", "model": model, **(more or {})})
    state.wait_for_everyone()
    todo = [job for job in jobs if not (options.out / f"{job.sample_id}{suffix}").exists()]
    # All processes share the same list out: none may write before each has looked at what is there.
    state.wait_for_everyone()
    # Whole images are made one by one, and a batch of them would be lost together.
    size = 1 if maker.drawing.one_by_one else options.batch
    batches = [todo[start : start + size] for start in range(0, len(todo), size)]
    done = len(jobs) - len(todo)
    with progress("generating", len(jobs), "images", done, state.is_main_process) as advance:
        for batch in batches[state.process_index :: state.num_processes]:
            _make(maker, batch, suffix, model)
            advance(min(len(batch) * state.num_processes, len(jobs)))
    state.wait_for_everyone()
    return suffix


def is_main_process() -> bool:
    """Whether this process writes what there is one of, and talks to the user."""
    from accelerate import PartialState

    return PartialState().is_main_process


def suffix_of(form: str, spec: Any, jobs: Sequence[Job]) -> str:
    """The ending of the images' files.

    Raises:
        UserError: a format that cannot hold the modality's values.
    """
    from medloom.core.spec import HU
    from medloom.generation.drawing import modality_of

    units = {spec.of(modality_of(job.condition, spec)).output_unit for job in jobs}
    if form == "auto":
        form = ("nifti" if spec.spatial_dims == 3 else "dicom") if HU in units else "png"
        form = "nifti" if spec.spatial_dims == 3 else form
    if HU in units and form in ("png", "tiff"):
        raise UserError(f"--format {form} cannot hold values in HU; use dicom, nifti, nrrd or mhd.")
    if spec.spatial_dims == 3 and form in ("png", "tiff", "dicom"):
        raise UserError(f"--format {form} cannot hold a volume; use nifti, nrrd or mhd.")
    return FORMATS[form]


def _describe(options: MakingOptions, file: str, description: Mapping[str, Any]) -> None:
    """Write what the folder holds, or refuse to mix images of two kinds in it.

    Raises:
        UserError: the folder holds images of other options.
    """
    from dataclasses import asdict

    from medloom.core.config import plain
    from medloom.core.files import hash_json, read_json, write_json

    told = {name: value for name, value in plain(asdict(options)).items() if name not in FREE}
    if options.provenance != "full":
        told |= {name: hash_json(told[name]) for name in TOLD if told.get(name) is not None}
    wanted = {**description, "options": told}
    path = options.out / file
    if path.is_file() and _given(old := read_json(path)) != _given(wanted):
        changed = [name for name, value in told.items() if old.get("options", {}).get(name) != value]
        others = [f"another {name}" for name in description if old.get(name) != description[name]]
        what = ", ".join(f"--{name.replace('_', '-')}" for name in changed) or " and ".join(others)
        raise UserError(f"--out {options.out} holds images made with other options ({what}); name another folder.")
    write_json(path, wanted)


def _given(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description less the options that were not given, which an earlier version may not have had."""
    options = {name: value for name, value in description.get("options", {}).items() if value is not None}
    return {**description, "options": options}


def _make(maker: Maker, batch: Sequence[Job], suffix: str, model: str) -> None:
    from medloom.data.images import write_image

    images = maker.drawing.draw([job.condition for job in batch], [job.seed for job in batch])
    for job, image in zip(batch, images, strict=True):
        path = maker.options.out / f"{job.sample_id}{suffix}"
        write_image(path, image, _provenance(job, model, maker.options.provenance == "full"))


def _provenance(job: Job, model: str, full: bool) -> dict[str, str]:
    import medloom

    told = {"model": model, "seed": str(job.seed), "condition": job.condition.hash()}
    if full:
        told["text"] = job.condition.text or ""
        told["modality"] = job.condition.modality or ""
    return {"SYNTHETIC": "YES", "generator": f"medloom {medloom.__version__}", **told}


def told(maker: Maker, condition: Condition, where: str) -> Condition:
    """The parts of a condition that the model is told, the table's cells as it reads them.

    Args:
        maker: the model.
        condition: with all columns of its table.
        where: the file and line, or the option, for errors.

    Raises:
        UserError: the table lacks a column, or has a value, that the model needs or does not know.
    """
    if refusal := maker.generator.table_refusal(condition):
        raise UserError(f"{where}: {refusal}")
    table = {column.name: column.read(condition.table[column.name]) for column in maker.generator.columns}
    return replace(condition, table=table)


def write_making_manifest(path: Path, jobs: Sequence[Job], suffix: str, further: Sequence[str]) -> None:
    """Write the manifest of the images; `further` names the columns of the jobs' cells."""
    from medloom.data.tables import write_csv

    rows = [
        [
            job.sample_id,
            f"{job.sample_id}{suffix}",
            job.origin.source,
            job.arm,
            job.attribute,
            job.value,
            job.seed,
            job.origin.patient,
            job.condition.text,
            job.condition.modality,
            job.condition.view,
            *job.cells,
        ]
        for job in jobs
    ]
    write_csv(path, [*HEADER, *further], rows)


def write_grid(out: Path, spec: Any, jobs: Sequence[Job], suffix: str, columns: int = GRID_COLUMNS) -> None:
    """Write grid.png: the first images, `columns` of them a row."""
    from medloom.core.plots import flat, save_grid

    shown = jobs[: max(GRID_IMAGES // columns, 1) * columns]
    arrays = [flat(image) for image in previews(out, spec, shown, suffix)]
    save_grid(out / "grid.png", arrays, min(columns, len(arrays)))


def previews(out: Path, spec: Any, jobs: Sequence[Job], suffix: str) -> Iterator[Any]:
    """Images as written, float32 `(C, *spatial)`, brought back to [-1, 1]."""
    from medloom.data.images import read_image
    from medloom.generation.drawing import modality_of

    for job in jobs:
        intensity = spec.of(modality_of(job.condition, spec))
        image = read_image(out / f"{job.sample_id}{suffix}")
        relative = intensity.kind == "percentile"
        low, high = (
            (0.0, image.full_scale if suffix == ".png" else 1.0) if relative else (intensity.low, intensity.high)
        )
        scaled = (image.pixels - low) / (high - low) * 2 - 1
        yield scaled[..., 0] if scaled.ndim == 4 and spec.spatial_dims == 2 else scaled
