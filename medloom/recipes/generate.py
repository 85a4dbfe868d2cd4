"""`medloom generate`: images from a prompt, or from a manifest of conditions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.core.seeds import MAX_SEED, check_seed
from medloom.core.types import Condition
from medloom.data.options import ManifestOptions

if TYPE_CHECKING:
    from medloom.generators.run_folder import RunFolder

FORMATS = {"png": ".png", "tiff": ".tiff", "dicom": ".dcm", "nifti": ".nii.gz", "nrrd": ".nrrd", "mhd": ".mhd"}
LABEL_COLUMNS = ("label", "finding", "class")
HEADER = ("sample_id", "path", "source_id", "arm", "attribute", "value", "seed", "patient", "text", "modality", "view")
GRID_IMAGES = 64
GRID_COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class Config(ManifestOptions):
    """Generate images with a trained model; every image says that it is SYNTHETIC.

    Attributes:
        model: run folder.
        out: folder for the images and their manifest.csv.
        prompt: what the images should show.
        modality: imaging modality; one that the model was trained on.
        view: view or plane; one that the model was trained on.
        mask: label map that the images should follow, for a model trained with masks.
        data: manifest of conditions, in place of the prompt: images for each of its rows.
        n: images a prompt, or a row.
        seed: of the first image; the k-th has seed + k, and looks the same in any batch and number of processes.
        steps: steps of the sampler.
        guidance: how strongly the condition is followed; 1 is no guidance.
        guidance_mask: in place of `guidance`, for the mask.
        guidance_modality: in place of `guidance`, for modality and view.
        guidance_text: in place of `guidance`, for the text.
        negative: what the images should not show.
        sampler: name of a sampler; the default fits the model.
        batch: images at a time.
        format: auto, png, tiff, dicom, nifti, nrrd or mhd; auto is PNG, or DICOM (NIfTI in 3-D) for values in HU.
        provenance: hash, or full, which writes the condition's text into every file.
        keep: clinical columns of `data` to carry into the manifest (default: label, finding, class).
        device: auto, cpu or cuda.
    """

    model: Path
    out: Path
    prompt: str | None = None
    modality: str | None = None
    view: str | None = None
    mask: Path | None = None
    data: Path | None = None
    n: int = 1
    seed: int = 0
    steps: int = 20
    guidance: float = 2.0
    guidance_mask: float | None = None
    guidance_modality: float | None = None
    guidance_text: float | None = None
    negative: str | None = None
    sampler: str | None = None
    batch: int = 16
    format: str = "auto"
    provenance: str = "hash"
    keep: tuple[str, ...] = LABEL_COLUMNS
    device: str = "auto"


@dataclass(frozen=True)
class Job:
    """One image to make."""

    number: int
    condition: Condition
    seed: int
    source: str
    patient: str
    kept: tuple[Any, ...]

    @property
    def sample_id(self) -> str:
        """The image's name; nothing of a table is in it."""
        return f"{self.number:06d}"


def run(config: Config) -> Path:
    """Generate; returns the path of manifest.csv.

    Raises:
        UserError: a condition that the model cannot follow, an option out of range, or --out that holds something else.
    """
    from accelerate import PartialState

    from medloom.core.files import claim_output
    from medloom.core.progress import progress, say
    from medloom.generators.registry import load_run
    from medloom.training.loop import check_device

    _check(config)
    check_device(config.device)
    run_folder, generator = load_run(config.model)
    jobs, header = _jobs(config)
    generator.check_conditions([job.condition for job in jobs])
    generator.check_sampling(_sampling(config, generator))
    state = PartialState(cpu=config.device == "cpu")
    generator.to(state.device)
    suffix = _suffix(config.format, generator.spec, jobs)
    if state.is_main_process:
        claim_output(config.out, "generation.json")
        _describe(config, run_folder)
    state.wait_for_everyone()
    todo = [job for job in jobs if not (config.out / f"{job.sample_id}{suffix}").exists()]
    batches = [todo[start : start + config.batch] for start in range(0, len(todo), config.batch)]
    done = len(jobs) - len(todo)
    with progress("generating", len(jobs), "images", done, state.is_main_process) as advance:
        for batch in batches[state.process_index :: state.num_processes]:
            _make(config, generator, run_folder, batch, suffix)
            advance(min(len(batch) * state.num_processes, len(jobs)))
    state.wait_for_everyone()
    manifest = config.out / "manifest.csv"
    if state.is_main_process:
        _write_manifest(manifest, jobs, suffix, header)
        _write_grid(config.out, generator.spec, jobs, suffix)
        say(f"{len(jobs)} images: {manifest}; look at {config.out / 'grid.png'}")
    return manifest


def _check(config: Config) -> None:
    from medloom.core.lookup import look_up

    if config.n < 1 or config.batch < 1 or config.steps < 1:
        raise UserError(f"--n {config.n}, --batch {config.batch}, --steps {config.steps}: each is at least 1.")
    check_seed(config.seed)
    if config.format != "auto":
        look_up(FORMATS, config.format, "--format")
    if config.provenance not in ("hash", "full"):
        raise UserError(f"--provenance {config.provenance}: allowed are hash, full.")
    if config.data is not None and (config.prompt, config.modality, config.view, config.mask) != (None,) * 4:
        raise UserError("--data brings its own conditions; leave --prompt, --modality, --view and --mask out.")
    if config.data is None and config.prompt is None and config.modality is None and config.mask is None:
        raise UserError(
            "say what to generate: --prompt, --modality or --mask, or a manifest of conditions with --data."
        )


def _jobs(config: Config) -> tuple[list[Job], list[str]]:
    """The images to make, in order, and the names of the columns that are carried along."""
    if config.data is None:
        condition = Condition(config.prompt, config.modality, config.view, mask=config.mask)
        rows: list[tuple[Condition, str, str, tuple[Any, ...]]] = [(condition, "", "", ())]
        kept: list[str] = []
    else:
        rows, kept = _rows_of_manifest(config)
    last = config.seed + len(rows) * config.n - 1
    if last > MAX_SEED:
        raise UserError(
            f"--seed {config.seed} with {len(rows) * config.n} images passes {MAX_SEED}; take a smaller one."
        )
    jobs = [
        Job(index * config.n + k, condition, config.seed + index * config.n + k, source, patient, values)
        for index, (condition, source, patient, values) in enumerate(rows)
        for k in range(config.n)
    ]
    return jobs, kept


def _rows_of_manifest(config: Config) -> tuple[list[tuple[Condition, str, str, tuple[Any, ...]]], list[str]]:
    from medloom.core.files import hash_file, hash_text
    from medloom.core.progress import say
    from medloom.data.manifest import read_manifest
    from medloom.data.options import named_columns

    if config.data is None:
        raise ValueError("a manifest is needed here")
    manifest = read_manifest(
        config.data,
        named=named_columns(config),
        images_are_patients=config.images_are_patients,
        skip_bad=config.skip_bad,
        need_patients=False,
    )
    for note in manifest.notes:
        say(note)
    kept = [name for name in config.keep if name in manifest.clinical_columns]
    if missing := [name for name in config.keep if name not in kept and name not in LABEL_COLUMNS]:
        raise UserError(f"--keep: {config.data} has no clinical column {missing[0]!r}.")
    salt = hash_file(config.data)
    rows = []
    for sample in manifest.samples():
        source, patient = hash_text(f"{salt}{sample.row}"), hash_text(f"{salt}{sample.patient}")
        rows.append((sample.condition, source, patient, tuple(sample.condition.table[name] for name in kept)))
    return rows, kept


def _suffix(form: str, spec: Any, jobs: Sequence[Job]) -> str:
    """The ending of the images' files.

    Raises:
        UserError: a format that cannot hold the modality's values.
    """
    from medloom.core.spec import HU

    units = {spec.of(job.condition.modality or next(iter(spec.intensity))).output_unit for job in jobs}
    if form == "auto":
        form = ("nifti" if spec.spatial_dims == 3 else "dicom") if HU in units else "png"
        form = "nifti" if spec.spatial_dims == 3 else form
    if HU in units and form in ("png", "tiff"):
        raise UserError(f"--format {form} cannot hold values in HU; use dicom, nifti, nrrd or mhd.")
    if spec.spatial_dims == 3 and form in ("png", "tiff", "dicom"):
        raise UserError(f"--format {form} cannot hold a volume; use nifti, nrrd or mhd.")
    return FORMATS[form]


def _describe(config: Config, run_folder: "RunFolder") -> None:
    """Write generation.json, or refuse to mix two generations in one folder.

    Raises:
        UserError: the folder holds images of other options.
    """
    from dataclasses import asdict

    from medloom.core.files import read_json, write_json
    from medloom.recipes.preparation import plain

    free = ("out", "device", "batch", "model")
    options = {name: value for name, value in plain(asdict(config)).items() if name not in free}
    if config.provenance != "full":
        from medloom.core.files import hash_json

        told = ("prompt", "negative")
        options |= {name: hash_json(options[name]) for name in told if options[name] is not None}
    description = {"SYNTHETIC": "YES", "model": run_folder.model_hash(), "options": options}
    path = config.out / "generation.json"
    if path.is_file() and (old := read_json(path)) != description:
        changed = [name for name, value in options.items() if old.get("options", {}).get(name) != value]
        what = ", ".join(f"--{name.replace('_', '-')}" for name in changed) or "another model"
        raise UserError(f"--out {config.out} holds images made with other options ({what}); name another folder.")
    write_json(path, description)


def _sampling(config: Config, generator: Any) -> Any:
    from medloom.generators.diffusion.generator import SamplingOptions

    given = {"mask": config.guidance_mask, "modality": config.guidance_modality, "text": config.guidance_text}
    return SamplingOptions(
        steps=config.steps,
        guidance=config.guidance,
        guidance_by_part={part: scale for part, scale in given.items() if scale is not None},
        sampler=config.sampler,
        negative=config.negative,
    )


def _make(config: Config, generator: Any, run_folder: "RunFolder", batch: Sequence[Job], suffix: str) -> None:
    from medloom.data.dataset import read_labels
    from medloom.data.images import write_image
    from medloom.data.transforms import from_model

    conditions = [job.condition for job in batch]
    images = generator.generate(
        conditions,
        [job.seed for job in batch],
        _sampling(config, generator),
        read_mask=lambda condition: read_labels(condition.mask, generator.spec),
    )
    spec = generator.spec
    for job, array in zip(batch, images.numpy(), strict=True):
        modality = job.condition.modality or next(iter(spec.intensity))
        image = from_model(array, spec, modality)
        write_image(config.out / f"{job.sample_id}{suffix}", image, _provenance(config, run_folder, job))


def _provenance(config: Config, run_folder: "RunFolder", job: Job) -> dict[str, str]:
    import medloom

    told = {"model": _hash_of(run_folder), "seed": str(job.seed), "condition": _told(job.condition).hash()}
    if config.provenance == "full":
        told["text"] = job.condition.text or ""
        told["modality"] = job.condition.modality or ""
    return {"SYNTHETIC": "YES", "generator": f"medloom {medloom.__version__}", **told}


def _told(condition: Condition) -> Condition:
    """The parts that a text-to-image model is told."""
    return Condition(condition.text, condition.modality, condition.view, mask=condition.mask)


_HASHES: dict[Path, str] = {}


def _hash_of(run_folder: "RunFolder") -> str:
    if run_folder.path not in _HASHES:
        _HASHES[run_folder.path] = run_folder.model_hash()
    return _HASHES[run_folder.path]


def _write_manifest(path: Path, jobs: Sequence[Job], suffix: str, kept: Sequence[str]) -> None:
    from medloom.data.tables import write_csv

    rows = [
        [
            job.sample_id,
            f"{job.sample_id}{suffix}",
            job.source,
            "factual",
            None,
            None,
            job.seed,
            job.patient,
            job.condition.text,
            job.condition.modality,
            job.condition.view,
            *job.kept,
        ]
        for job in jobs
    ]
    write_csv(path, [*HEADER, *kept], rows)


def _write_grid(out: Path, spec: Any, jobs: Sequence[Job], suffix: str) -> None:
    from medloom.core.pictures import save_grid

    arrays = list(_previews(out, spec, jobs[:GRID_IMAGES], suffix))
    save_grid(out / "grid.png", arrays, min(GRID_COLUMNS, len(arrays)))


def _previews(out: Path, spec: Any, jobs: Sequence[Job], suffix: str) -> Iterator[Any]:
    """Images as written, brought back to [-1, 1]."""
    from medloom.data.images import read_image

    for job in jobs:
        intensity = spec.of(job.condition.modality or next(iter(spec.intensity)))
        image = read_image(out / f"{job.sample_id}{suffix}")
        relative = intensity.kind == "percentile"
        low, high = (
            (0.0, image.full_scale if suffix == ".png" else 1.0) if relative else (intensity.low, intensity.high)
        )
        scaled = (image.pixels - low) / (high - low) * 2 - 1
        yield scaled[..., 0] if scaled.ndim == 4 and spec.spatial_dims == 2 else scaled
