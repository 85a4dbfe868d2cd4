"""`medloom evaluate images`: metrics of synthetic images with intervals, compared with real images."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from medloom.core.errors import UserError
from medloom.core.options import flag_of, given_again, setting
from medloom.data.manifest import ManifestOptions, load_manifest
from medloom.evaluation.report.options import ReportOptions
from medloom.generators.leakage import refuse_seen, refuse_seen_by

if TYPE_CHECKING:
    from medloom.data.manifest import Manifest
    from medloom.evaluation.images.comparison import Comparison
    from medloom.evaluation.images.joint_encoders import JointEncoder
    from medloom.evaluation.images.section import Found, Inputs
    from medloom.evaluation.report.openings import Openings
    from medloom.evaluation.report.plan import Plan
    from medloom.evaluation.report.report import Report

RANKING = "ranking.json"
VERSIONS = ("torch", "transformers", "monai", "scikit-learn", "scipy", "numpy")


@dataclass(frozen=True, kw_only=True)
class Config(ReportOptions, ManifestOptions):
    """Compare synthetic images with real ones.

    Attributes:
        real: manifest of real images that the generator was not trained on.
        synthetic: manifest of synthetic images, as `medloom generate` writes it. Given several times, each set gets a
            report in a folder of its name, and ranking.html and ranking.json compare them.
        out: folder of scores.json and report.html; the same command run again uses what it kept there.
        train: manifest of the generator's training images. It is needed to look for copies, and the classifier is
            trained on it. Without it the classifier is trained on one half of the patients of --real, and the
            other half is the reference.
        control: manifest of images that are known to be bad, e.g. of an early checkpoint of the generator. A metric, or
            a rule of --gate, by which they are as good as real images shows nothing.
        model: run folder of the generator. Patients of --real that it was trained on are refused; with --train it is
            attacked by membership inference.
        label: column of the class that a classifier predicts, modality, or none. auto takes a column called label,
            finding or class that both manifests have, else the modality.
        by: columns of all manifests, e.g. finding sex age. Each of their values, or each third of their numbers, is
            measured on its own.
        features: feature extractors: classifier, local (a self-supervised encoder trained on real images outside the
            reference), texture, pixels, hf:PATH (a transformers vision model: a folder, or ORG/NAME of the hub; of
            volumes, by slices of each plane). Default: classifier, if there is a label, local and texture.
        metrics: further metrics on features to measure in the section fidelity, names of medloom.metrics, e.g.
            squared_mmd.
        conditions: table that the images were generated from (`medloom generate --data`); their texts, and columns that
            their manifest lacks, are taken from it, by source_id.
        pair_encoder: encoder of images and texts in one space, by which images are compared with their texts: a run
            folder of `medloom train text-encoder`, or a folder of a transformers CLIP model (safetensors).
        only: sections of the report to measure, e.g. fidelity. Default: all that the data allow; sections with too few
            images are left out, and the report says so.
        image_size: pixels of the classifier's images; one number for all axes, or one per axis (default: 64, of volumes
            32).
        resize: how images are brought to that size: pad (aspect kept), crop, stretch, or none (files have the size).
        network: the classifier and the encoder: small (for a CPU) or densenet121.
        steps: optimiser steps of the classifier and of the encoder.
        seed: of the split, the classifier, and all resamples.
        drop_copies: write cleaned.csv, the synthetic manifest without the images that are listed as copies, and
            evaluate it in the folder cleaned.
        reference_model: run folder of a model that was trained on neither --train nor --real; its losses calibrate the
            attack on --model.
        attack_images: largest number of images per side in the attack on --model.
        edited_images: number of real images that are edited in each way to see which edited copies are found.
        cache: folder of decoded images, features and classifiers (default: in --out).
        device: auto, cpu or cuda.
    """

    common: ClassVar[tuple[str, ...]] = (
        "real",
        "synthetic",
        "out",
        "train",
        "control",
        "model",
        "label",
        "by",
        "features",
        "only",
        "image_size",
        "plan",
        "gate",
        "drop_copies",
        "seed",
        "device",
        "images_are_patients",
        "unit",
    )
    example: ClassVar[str] = (
        "medloom evaluate images --real test.csv --synthetic images/manifest.csv --train train.csv --out report"
    )

    real: Path
    synthetic: tuple[Path, ...] = given_again()
    out: Path
    train: Path | None = None
    control: Path | None = None
    model: Path | None = None
    label: str = "auto"
    by: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    conditions: Path | None = None
    pair_encoder: Path | None = None
    only: tuple[str, ...] = ()
    image_size: tuple[int, ...] = ()
    resize: str = "pad"
    network: str = "small"
    steps: int = 200
    seed: int = 0
    drop_copies: bool = False
    reference_model: Path | None = None
    attack_images: int = setting(500)
    edited_images: int = setting(40)
    cache: Path | None = None
    device: str = "auto"


def run(config: Config) -> Path:
    """Evaluate; returns the folder of scores.json and report.html.

    Raises:
        UserError: an option that is out of range, manifests that cannot be compared, or images that cannot be read.
        GateError: a bound of --gate that is not met.
    """
    from medloom.evaluation.images.sections import SIGNED
    from medloom.evaluation.report.plan import read_plan

    # Before anything else is read.
    plan = read_plan(config.plan, _known(config), SIGNED)
    if len(config.synthetic) > 1:
        return _rank(config, plan)
    return evaluated(config, plan, None)[0]


def _rank(config: Config, plan: "Plan | None") -> Path:
    """Evaluate several sets, each in a folder of its own, and rank them.

    Raises:
        UserError: options of one generator, or sets of one name.
    """
    from medloom.core.files import write_json, write_text
    from medloom.core.output_folder import output_folder
    from medloom.core.progress import say
    from medloom.evaluation.images.ranking import Contender, ranked, ranking_page

    for name in ("model", "reference_model", "gate", "drop_copies", "conditions"):
        if getattr(config, name):
            raise UserError(f"{flag_of(name)} is for one set of images, and {len(config.synthetic)} are given.")
    if config.only and "fidelity" not in config.only:
        raise UserError(
            "several --synthetic are ranked by the section fidelity, which --only leaves out; name it there too."
        )
    names = [path.stem for path in config.synthetic]
    if len(set(names)) < len(names):
        names = [path.parent.name for path in config.synthetic]
    if len(set(names)) < len(names):
        raise UserError("--synthetic: give manifests whose names or folders differ; the table is by these names.")
    with output_folder(config.out, RANKING):
        write_json(config.out / RANKING, {"finished": False})
        contenders: list[Contender] = []
        openings = None
        for name, path in zip(names, config.synthetic, strict=True):
            say(f"set {len(contenders) + 1} of {len(names)}: {name}")
            changed = {"synthetic": (path,), "out": config.out / name, "cache": config.cache or config.out / "cache"}
            own = replace(config, **changed, json=False)  # type: ignore[arg-type]
            _, report, inputs = evaluated(own, plan, openings)
            openings = openings or report.openings
            contenders.append(Contender(name, report.metrics, report.answers, inputs))
        places = ranked(contenders)
        write_text(config.out / "ranking.html", ranking_page(places))
        write_json(config.out / RANKING, {"finished": True, "ranking": [place.to_dict() for place in places]})
    for place in places:
        score = "was not measured" if place.score is None else f"{place.score:.3g}"
        say(f"{place.rank}. {place.name}: mean excess Frechet distance {score}, {place.standing}")
    if config.json:
        print((config.out / RANKING).read_text(encoding="utf-8"))
    say(f"ranked: {config.out / 'ranking.html'}")
    return config.out


def evaluated(config: Config, plan: "Plan | None", openings: "Openings | None") -> tuple[Path, "Report", "Inputs"]:
    """Evaluate one set; returns the folder, the report, and what it was measured from.

    Args:
        config: the options.
        plan: read before, or None.
        openings: of --real, where the evaluation is a part of another command that has counted it.

    Raises:
        UserError, GateError: see `run`.
    """
    from medloom.core.lookup import look_up
    from medloom.core.progress import say
    from medloom.evaluation.images.cache import EvaluationCache, judge_options
    from medloom.evaluation.images.control_set import with_control_set
    from medloom.evaluation.images.copies import without_known
    from medloom.evaluation.images.copy_search import CopySearch
    from medloom.evaluation.images.release import QUESTIONS, RELEASE
    from medloom.evaluation.images.section import Attack, Inputs
    from medloom.evaluation.images.sections import SECTIONS, SIGNED, choose_sections, unmeasured_metrics
    from medloom.evaluation.report.gate import check_allowed, enforce, judgements, read_gate
    from medloom.evaluation.report.metrics import EVERYTHING
    from medloom.evaluation.report.openings import count_opening
    from medloom.evaluation.report.report import Report, report_folder
    from medloom.metrics.matrices import computing_on

    judge = judge_options(config.network, config.steps, config.seed, config.device)
    _check(config)
    known = _known(config)
    rules = read_gate(config.gate, known, RELEASE, SIGNED)
    check_allowed(config.allow_inconclusive, known, config.gate)
    real, synthetic, data, unit = _sets(config, judge.device)
    extractors = _extractors(config, data)
    for rule in rules:
        if rule.metric in SECTIONS["fidelity"].metrics:
            look_up(dict.fromkeys((EVERYTHING, *data.real.parts)), rule.of, f"--gate {config.gate}: of")
            if rule.features is not None:
                look_up(dict.fromkeys(extractors), rule.features, f"--gate {config.gate}: features")
    cache = EvaluationCache(config.cache or config.out, data.spec, judge, unit)
    with report_folder(config.out):
        copies = CopySearch(data.spec, unit, cache.folder, config.seed, config.edited_images)
        data = without_known(data, copies)
        chosen, left_out = choose_sections(config.only, data)
        notes = [*data.notes, *(f"{name} was left out: {reason}." for name, reason in left_out.items())]
        for note in notes:
            say(note)

        given = (config.reference_model, config.attack_images, config.device)
        attack = None if config.model is None else Attack(config.model, *given)
        inputs = Inputs(
            data,
            cache,
            copies,
            extractors,
            config.metrics,
            attack,
            with_classifier="classifier" in extractors or any("classes" in SECTIONS[name].needs for name in chosen),
        )
        with computing_on(config.device):
            found = with_control_set({name: SECTIONS[name].measure(inputs) for name in chosen}, inputs)
        report = Report(notes=notes, facts={**_facts(config, data), **inputs.facts, "left_out": left_out})
        for name, own in found.items():
            report.add(name, own.metrics, own.notes)
        unmeasured = unmeasured_metrics(data, chosen, left_out)
        report.answer(QUESTIONS, unmeasured)
        if openings is None:
            openings = count_opening(real, "evaluate images", plan, config.out, synthetic.fingerprint())
        report.follow(plan, openings, unmeasured)
        _write(config, report, found, inputs)

        cleaned = _cleaned(config, found, synthetic)
        if cleaned is not None:
            # The cleaned set is what would be released, so it is what has to pass the gate.
            return evaluated(cleaned, plan, openings)
        enforce(config.gate, judgements(rules, report.metrics, unmeasured), config.allow_inconclusive)
        return config.out, report, inputs


def _sets(config: Config, device: str) -> tuple["Manifest", "Manifest", "Comparison", str | None]:
    """The real and the synthetic manifest, the sets that are compared, and the unit of files that do not state theirs.

    Args:
        config: the options.
        device: a torch device, of the encoder of images and texts.

    Raises:
        UserError: see `run`.
    """
    from medloom.data.units import joined_units
    from medloom.evaluation.images.comparison import compare, readable_only
    from medloom.evaluation.images.formats import with_formats
    from medloom.evaluation.images.sections import choose_sections

    real = load_manifest(config.real, config, need=("path",))
    synthetic = _synthetic(config)
    if config.model is not None:
        refuse_seen(config.model, config.real, real)
    joint = _joint_encoder(config, real, device)
    train = load_manifest(config.train, config, need=("path",)) if config.train else None
    control = _generated(config.control, config) if config.control else None
    manifests = [manifest for manifest in (real, synthetic, train, control) if manifest is not None]
    unit = joined_units(config.unit, *(manifest.units for manifest in manifests))
    data = compare(
        real,
        synthetic,
        train,
        label=config.label,
        image_size=config.image_size,
        resize=config.resize,
        seed=config.seed,
        unit=unit,
        set_apart=not config.features or "local" in config.features or "findings" in config.only,
        by=config.by,
        control=control,
    )
    if joint is not None:
        # Images that it cannot see are refused before anything is trained.
        joint.extractor(data.spec, set(data.real.groups))
        data = replace(data, joint=joint)
    data = readable_only(data, unit) if config.skip_bad else data
    # Sections that cannot be measured are refused before anything is trained.
    choose_sections(config.only, data)
    return real, synthetic, with_formats(data, unit), unit


def _joint_encoder(config: Config, real: "Manifest", device: str) -> "JointEncoder | None":
    """The encoder of --pair-encoder; None if it is not given.

    Raises:
        UserError: a folder of something else, or an encoder that was trained on patients of --real.
    """
    from medloom.evaluation.images.joint_encoders import OPTION, load_joint_encoder

    if config.pair_encoder is None:
        return None
    joint = load_joint_encoder(config.pair_encoder, device)
    if joint.run is not None:
        refuse_seen_by(joint.run, config.pair_encoder, config.real, real, OPTION)
    return joint


def _write(config: Config, report: "Report", found: Mapping[str, "Found"], inputs: "Inputs") -> None:
    """Write the report, the cards, and the files that are not for sharing; those of an earlier report go."""
    from medloom.evaluation.images.cards import write_cards
    from medloom.evaluation.images.page import images_page, synthetic_strips, unlike_strips
    from medloom.evaluation.images.side_by_side import SIDE_BY_SIDE, write_side_by_side

    data, unit = inputs.data, inputs.cache.unit
    files: dict[str, Callable[[Path], None]] = {SIDE_BY_SIDE: partial(write_side_by_side, inputs=inputs)}
    files.update({file: write for own in found.values() for file, write in own.files.items()})
    report.facts["internal_files"] = sorted(files)
    for pattern in ("*-internal.csv", "*-internal.html"):
        for stale in config.out.glob(pattern):
            stale.unlink()
    for file, write in files.items():
        write(config.out / file)
    strips = [*synthetic_strips(data.synthetic, data.spec, unit), *unlike_strips(inputs)]
    report.write(config.out, images_page(report, found, strips), config.json)
    write_cards(config.out, report, data.table, config.model)


def _cleaned(config: Config, found: Mapping[str, "Found"], synthetic: "Manifest") -> Config | None:
    """The evaluation of the images that are listed as no copies; None if it is not wanted or none is listed."""
    from medloom.core.progress import say

    unreleasable = {str(path) for own in found.values() for path in own.unreleasable}
    if not config.drop_copies or not unreleasable:
        return None
    kept = [path not in unreleasable for path in synthetic.frame["path"]]
    cleaned = config.out / "cleaned.csv"
    # As the manifest has them: texts and columns of --conditions are not for release.
    _images(config).select(kept).write(cleaned)
    say(f"{len(kept) - sum(kept)} of {len(kept)} synthetic images are listed as copies; the others: {cleaned}")
    changed = {"synthetic": (cleaned,), "out": config.out / "cleaned", "cache": config.cache or config.out}
    return replace(config, **changed, drop_copies=False)  # type: ignore[arg-type]


def _known(config: Config) -> list[str]:
    """The names of the metrics that the report may have."""
    from medloom.evaluation.images.sections import SECTIONS

    return [*(name for section in SECTIONS.values() for name in section.metrics), *config.metrics]


def _facts(config: Config, data: "Comparison") -> dict[str, object]:
    """What scores.json says of the command, its sets and the libraries."""
    from importlib.metadata import version

    import medloom
    from medloom.core.config import plain
    from medloom.generators.storage import open_generator

    return {
        "options": plain(asdict(config)),
        "sets": [dict(entry) for entry in data.table],
        "label": data.label,
        "model": None if config.model is None else open_generator(config.model).model_hash(),
        "spec": data.spec.to_dict(),
        "versions": {"medloom": medloom.__version__, **{name: version(name) for name in VERSIONS}},
    }


def _synthetic(config: Config) -> "Manifest":
    """The synthetic images, with the texts of the table that they were generated from where it is named.

    Raises:
        UserError: a manifest that cannot be used, another table, or no texts where they are asked for.
    """
    from medloom.evaluation.images.source_rows import require_texts, with_conditions

    synthetic = _images(config)
    if config.conditions is not None:
        return with_conditions(synthetic, config.conditions, config)
    if "text" in (config.label, *config.by):
        require_texts(synthetic)
    return synthetic


def _images(config: Config) -> "Manifest":
    """The manifest of the synthetic images as it is."""
    return _generated(config.synthetic[0], config)


def _generated(path: Path, config: Config) -> "Manifest":
    """A manifest of generated images, which need no patients."""
    from medloom.data.manifest import read_manifest

    return read_manifest(path, skip_bad=config.skip_bad, need=("path",), need_patients=False)


def _extractors(config: Config, data: "Comparison") -> tuple[str, ...]:
    """The feature extractors that are asked for, else all that the images allow.

    Raises:
        UserError: a classifier where the images have no classes.
    """
    from medloom.downstream.ssl import LEAST
    from medloom.evaluation.images.features import by_plane

    able = {"classifier": data.fit is not None, "local": len(data.other_real) >= LEAST, "texture": True}
    asked = config.features or tuple(name for name, possible in able.items() if possible)
    extractors = tuple(dict.fromkeys(own for name in asked for own in by_plane(name, data.spec)))
    if "classifier" in extractors and data.fit is None:
        raise UserError(
            "--features classifier needs a class of each image: name a column of both manifests with --label, or give"
            " other features (pixels, hf:PATH)."
        )
    return extractors


def _check(config: Config) -> None:
    """Refuse options that are out of range or do not go together, before any image is read.

    Raises:
        UserError: the first of them.
    """
    from medloom.core.lookup import look_up
    from medloom.evaluation.images.features import check_extractor
    from medloom.evaluation.images.fidelity import check_metrics
    from medloom.evaluation.images.sections import SECTIONS

    for name in config.only:
        look_up(SECTIONS, name, "section in --only")
    for name in config.features:
        check_extractor(name)
    check_metrics(config.metrics)
    if config.metrics and config.only and "fidelity" not in config.only:
        raise UserError("--metrics are measured in the section fidelity, which --only leaves out; name it there too.")
    if config.control is not None and config.only and not {"fidelity", "alignment"} & set(config.only):
        raise UserError("--control is measured in the sections fidelity and alignment, which --only leaves out.")
    for name in ("attack_images", "edited_images"):
        if getattr(config, name) < 1:
            raise UserError(f"the setting {name} is {getattr(config, name)}: give 1 or more.")
    if config.reference_model is not None and None in (config.model, config.train):
        raise UserError("--reference-model calibrates the attack on --model, which needs --train; give both.")
    if config.pair_encoder is not None and config.only and "texts" not in config.only:
        raise UserError("--pair-encoder is for the section texts, which --only leaves out; name it there too.")
    if config.drop_copies and config.train is None:
        raise UserError("--drop-copies needs --train: copies are looked for among the training images.")
    if config.drop_copies and config.only and "copies" not in config.only:
        raise UserError("--drop-copies needs the section copies, which --only leaves out; name it there too.")
