"""`medloom evaluate`: whether synthetic images can be trusted, in figures with intervals beside real references."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.data.options import ManifestOptions, load_manifest
from medloom.recipes.edit_scores import EditsBeside, evaluate_edits
from medloom.recipes.effects import Beside, evaluate_effects
from medloom.recipes.seen import refuse_seen

if TYPE_CHECKING:
    from medloom.downstream.classifier import Classifier, ClassifierOptions
    from medloom.evaluation.classifiers import Workshop
    from medloom.evaluation.comparison import Comparison
    from medloom.evaluation.features import Extractor, FeatureSet
    from medloom.evaluation.report import Evaluation
    from medloom.evaluation.sets import ImageSet

SECTIONS: dict[str, str] = {
    "fidelity": "whether synthetic images are distributed like real ones",
    "alignment": "whether they show what their condition says; needs a label or two modalities",
    "privacy": "whether they are copies of training images; needs --train",
}


@dataclass(frozen=True, kw_only=True)
class Config(ManifestOptions):
    """Compare synthetic images with real ones.

    Attributes:
        real: manifest of real images that the generator was not trained on.
        synthetic: manifest of synthetic images, as `medloom generate` writes it.
        whatif: in place of the two, manifest.csv of `medloom whatif`: its effects are measured.
        edits: in place of these, manifest.csv of `medloom edit`: what it keeps and changes is measured.
        reference: manifest of the triples that were edited, whose later images the edits are set beside.
        judge: columns of --train and --reference, e.g. finding sex age view, that classifiers trained on --train tell
            on the edits; mask has a network segment them, and says whether the anatomy stays and is there once.
        truth: phantom cohort whose rows were given to `medloom whatif` or `medloom edit`: its effects, or what truly
            happened, are compared.
        observed: manifest of held-out real images with masks and the template's columns: what they show between
            patients with and without a value is set beside the shifts of --whatif.
        adjust: columns that the observed difference is adjusted for, e.g. age view.
        out: folder for scores.json and report.html; the same command run again uses what it kept there.
        train: manifest of the generator's training images: needed for privacy, and the classifier is trained on it.
            Without it the classifier is trained on one half of the patients of --real, and the other half compared.
        model: run folder of the generator; patients of --real that it has seen are refused.
        label: column of the class that a classifier tells, modality, or none. auto takes a column called label, finding
            or class that both manifests have, else the modality.
        features: extractors of features: classifier, pixels, hf:PATH (a transformers vision model, folder or hub id).
        only: fidelity, alignment, privacy; all that the data allow, where none is named.
        image_size: pixels of the classifier's images; one number for a square, or one for each axis.
        resize: how images get there: pad (aspect kept), crop, stretch, or none (files must have the size).
        network: the classifier: small (for a CPU) or densenet121.
        steps: optimiser steps of the classifier, or the network that segments.
        seed: of the split, the classifier, and all resamples.
        cache: folder for decoded images, features and classifiers (default: in --out).
        device: auto, cpu or cuda.
    """

    out: Path
    real: Path | None = None
    synthetic: Path | None = None
    whatif: Path | None = None
    edits: Path | None = None
    reference: Path | None = None
    judge: tuple[str, ...] = ()
    truth: Path | None = None
    observed: Path | None = None
    adjust: tuple[str, ...] = ()
    train: Path | None = None
    model: Path | None = None
    label: str = "auto"
    features: tuple[str, ...] = ("classifier",)
    only: tuple[str, ...] = ()
    image_size: tuple[int, ...] = (64,)
    resize: str = "pad"
    network: str = "small"
    steps: int = 200
    seed: int = 0
    cache: Path | None = None
    device: str = "auto"


def run(config: Config) -> Path:
    """Evaluate; returns the folder with scores.json and report.html.

    Raises:
        UserError: see the errors of each step below.
    """
    from medloom.core.files import claim_output
    from medloom.core.progress import say
    from medloom.evaluation.comparison import readable_only
    from medloom.evaluation.report import HTML, SCORES, begin_report, write_report

    _check_names(config)
    if config.whatif is not None:
        beside = Beside(config.truth, config.observed, config.adjust, config.model, config)
        return evaluate_effects(config.whatif, config.out, beside, config.seed)
    if config.edits is not None:
        return evaluate_edits(config.edits, config.out, _beside_edits(config), config.seed)
    data = _compare(config)
    sections = _sections(config, data)
    claim_output(config.out, SCORES)
    begin_report(config.out)
    data = readable_only(data, config.unit) if config.skip_bad else data
    for note in data.notes:
        say(note)
    evaluation = _evaluate(config, data, sections)
    write_report(config.out, evaluation, data.synthetic, data.spec, config.unit)
    say(f"evaluated: {config.out / HTML} for people, {config.out / SCORES} for programs.")
    return config.out


def _check_names(config: Config) -> None:
    from medloom.core.seeds import check_seed
    from medloom.downstream.classifier import NETWORKS
    from medloom.evaluation.features import check_extractor
    from medloom.training.loop import check_device

    alone = "edits" if config.edits is not None else "whatif"
    if getattr(config, alone) is not None and (config.real, config.synthetic) != (None,) * 2:
        raise UserError(f"--{alone} is an evaluation of its own; leave --real, --synthetic and --train out.")
    if config.train is not None and config.whatif is not None:
        raise UserError("--whatif is an evaluation of its own; leave --real, --synthetic and --train out.")
    if config.judge and config.edits is None:
        raise UserError("--judge belongs to --edits.")
    if config.edits is not None and config.whatif is not None:
        raise UserError("--edits and --whatif are evaluations of their own; name one.")
    if config.truth is not None and (config.whatif, config.edits) == (None, None):
        raise UserError("--truth belongs to --whatif or --edits.")
    if config.observed is not None and config.whatif is None:
        raise UserError("--observed belongs to --whatif.")
    if config.reference is not None and config.edits is None:
        raise UserError("--reference belongs to --edits.")
    if config.adjust and config.observed is None:
        raise UserError("--adjust belongs to --observed.")
    for name in config.only:
        look_up(SECTIONS, name, "name in --only")
    for name in config.features:
        check_extractor(name)
    if not config.features:
        raise UserError("--features names no extractor; give classifier, pixels or hf:PATH.")
    look_up(NETWORKS, config.network, "--network")
    if config.steps < 1:
        raise UserError(f"--steps {config.steps}: the classifier needs 1 or more.")
    check_seed(config.seed)
    check_device(config.device)


def _beside_edits(config: Config) -> EditsBeside:
    return EditsBeside(
        config.reference,
        config.truth,
        config.train,
        config.judge,
        config,
        _classifier_options(config),
        config.image_size,
    )


def _compare(config: Config) -> "Comparison":
    from medloom.data.manifest import read_manifest
    from medloom.evaluation.comparison import compare

    if config.real is None or config.synthetic is None:
        raise UserError("name two manifests, --real and --synthetic, or one with --whatif or --edits.")
    real = load_manifest(config.real, config, need=("path",))
    synthetic = read_manifest(config.synthetic, skip_bad=config.skip_bad, need=("path",), need_patients=False)
    if config.model is not None:
        refuse_seen(config, config.model, config.real, real)
    return compare(
        real,
        synthetic,
        load_manifest(config.train, config, need=("path",)) if config.train else None,
        label=config.label,
        image_size=config.image_size,
        resize=config.resize,
        seed=config.seed,
        unit=config.unit,
    )


def _sections(config: Config, data: "Comparison") -> list[str]:
    """The sections to measure: those asked for, else all that the data allow. What is asked for must be possible."""
    from medloom.evaluation import alignment, comparison, fidelity, privacy

    possible = {"fidelity": True, "alignment": data.fit is not None, "privacy": data.train is not None}
    chosen = [name for name in SECTIONS if (name in config.only if config.only else possible[name])]
    if "classifier" in config.features and data.fit is None and chosen != ["alignment"]:
        raise UserError(
            "--features classifier needs a class of each image: name a column of both manifests with --label, or give"
            " other features (pixels, hf:PATH)."
        )
    if "fidelity" in chosen:
        fidelity.require_enough(data.real, data.synthetic)
    if "alignment" in chosen:
        comparison.require_classes(data, alignment.LEAST)
    if "privacy" in chosen:
        if data.train is None:
            raise UserError(
                "--only privacy needs --train, the manifest of the images that the generator was trained on."
            )
        privacy.require_enough(data.real.units)
    return chosen


def _evaluate(config: Config, data: "Comparison", sections: list[str]) -> "Evaluation":
    from medloom.evaluation import alignment, fidelity, privacy
    from medloom.evaluation.features import Sources, make_extractor
    from medloom.evaluation.report import Evaluation

    shop = _workshop(config, data)
    measured = set(sections) & {"fidelity", "privacy"}
    wanted = "alignment" in sections or (measured and "classifier" in config.features)
    classifier = shop.classifier(data.fit, alignment.train_on_real) if wanted and data.fit else None
    found = Evaluation([], list(data.notes), data.table, {}, _facts(config, data, classifier), [])
    sets = {"real": data.real, "synthetic": data.synthetic, **({"train": data.train} if data.train else {})}
    extra = ("pixels",) if "privacy" in sections else ()
    for name in dict.fromkeys((*config.features, *extra)) if measured else ():
        extractor = make_extractor(name, Sources(data.spec, classifier, shop.options.device))
        found.extractors[name] = extractor.statement
        features = _features(config, extractor, sets, sections)
        if "fidelity" in sections and name in config.features:
            found.add(*fidelity.fidelity_figures(name, features["real"], features["synthetic"], config.seed))
        if "privacy" in sections:
            found.add(*privacy.copy_figures(name, sets, features, config.seed))
    if "privacy" in sections:
        found.add([privacy.identical_files(sets, config.seed)])
    if classifier is not None and "alignment" in sections:
        found.add(*alignment.alignment_figures(shop, classifier, data, config.seed))
    return found


def _features(
    config: Config, extractor: "Extractor", sets: "Mapping[str, ImageSet]", sections: list[str]
) -> "dict[str, FeatureSet]":
    from medloom.evaluation.features import extract

    folder = (config.cache or config.out) / "features"
    used = [name for name in sets if name != "train" or "privacy" in sections]
    return {name: extract(extractor, sets[name], folder, config.unit) for name in used}


def _workshop(config: Config, data: "Comparison") -> "Workshop":
    from medloom.evaluation.classifiers import Workshop

    return Workshop(config.cache or config.out, data.spec, _classifier_options(config), config.unit)


def _classifier_options(config: Config) -> "ClassifierOptions":
    import torch

    from medloom.downstream.classifier import ClassifierOptions

    device = "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"
    return ClassifierOptions(network=config.network, steps=config.steps, seed=config.seed, device=device)


def _facts(config: Config, data: "Comparison", classifier: "Classifier | None") -> dict[str, Any]:
    """What scores.json says of the evaluation itself."""
    from importlib.metadata import version

    import medloom
    from medloom.recipes.preparation import LIBRARIES, plain

    told = None
    if classifier is not None:
        told = {"network": classifier.name, "classes": list(classifier.classes), "selected": classifier.validation}
    return {
        "options": plain(asdict(config)),
        "label": data.label,
        "spec": data.spec.to_dict(),
        "classifier": told,
        "versions": {"medloom": medloom.__version__, **{name: version(name) for name in LIBRARIES}},
    }
