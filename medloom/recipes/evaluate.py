"""`medloom evaluate`: whether synthetic images can be trusted, in figures with intervals beside real references."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import GateError, UserError
from medloom.core.lookup import look_up
from medloom.data.options import ManifestOptions, load_manifest
from medloom.evaluation.edits.evaluate import EditsBeside, evaluate_edits
from medloom.evaluation.effects.evaluate import Beside, evaluate_effects
from medloom.generators.leakage import refuse_seen

if TYPE_CHECKING:
    from medloom.downstream.classifier import ClassifierOptions
    from medloom.evaluation.images.comparison import Comparison
    from medloom.evaluation.images.measure import SetOptions
    from medloom.evaluation.images.report import Evaluation
    from medloom.evaluation.report.gate import Rule

SECTIONS: dict[str, str] = {
    "fidelity": "whether synthetic images are distributed like real ones",
    "alignment": "whether they show what their condition says; needs a label or two modalities",
    "privacy": "whether they are copies of training images; needs --train",
    "lint": "whether texts, metadata or pixels may tell who a patient is",
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
        by: columns of all manifests, e.g. finding sex age: figures for each of their values, or thirds of numbers.
        features: extractors of features: classifier, local (a self-supervised encoder that is trained on the real
            images outside of those compared), pixels, hf:PATH (a transformers vision model, folder or hub id). Where
            none is named, classifier (where there is a label) and local.
        only: fidelity, alignment, privacy, lint; all that the data allow, where none is named.
        image_size: pixels of the classifier's images; one number for a square, or one for each axis.
        resize: how images get there: pad (aspect kept), crop, stretch, or none (files must have the size).
        network: the classifier: small (for a CPU) or densenet121.
        steps: optimiser steps of the classifier, the encoder, or the network that segments.
        seed: of the split, the classifier, and all resamples.
        gate: YAML file of thresholds; where one is not kept the command says which and ends with status 3.
        drop_copies: write cleaned.csv, the synthetic manifest without the images that are listed as copies, and
            evaluate it again in the folder cleaned.
        reference_model: run folder of a model that was trained on neither --train nor --real: the attack on --model is
            calibrated by its losses.
        attack_images: most images of a side in the attack on --model.
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
    by: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    image_size: tuple[int, ...] = (64,)
    resize: str = "pad"
    network: str = "small"
    steps: int = 200
    seed: int = 0
    gate: Path | None = None
    drop_copies: bool = False
    reference_model: Path | None = None
    attack_images: int = 500
    cache: Path | None = None
    device: str = "auto"


def run(config: Config) -> Path:
    """Evaluate; returns the folder with scores.json and report.html.

    Raises:
        UserError: see the errors of each step below.
        GateError: a threshold of --gate that is not kept.
    """
    from medloom.core.config import plain
    from medloom.core.files import claim_output
    from medloom.core.progress import say
    from medloom.evaluation.images.comparison import readable_only
    from medloom.evaluation.images.internal_report import write_internal
    from medloom.evaluation.images.measure import measure
    from medloom.evaluation.images.report import HTML, METRICS, SCORES, begin_report, write_report
    from medloom.evaluation.report.cards import write_cards
    from medloom.evaluation.report.gate import read_gate
    from medloom.metrics.matrices import computing_on

    _check_names(config)
    rules = read_gate(config.gate, METRICS) if config.gate is not None else []
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
    with computing_on(config.device):
        evaluation = measure(_measuring(config, data, sections), data)
    evaluation = replace(evaluation, facts={"options": plain(asdict(config)), **evaluation.facts})
    write_report(config.out, evaluation, data.synthetic, data.spec, config.unit)
    write_cards(config.out, evaluation.figures, evaluation.sets, evaluation.notes, _told_of_model(config))
    if evaluation.copies and data.train is not None:
        write_internal(config.out, evaluation.copies, (data.synthetic, data.train), data.spec, config.unit)
    say(f"evaluated: {config.out / HTML} for people, {config.out / SCORES} for programs.")
    if config.drop_copies and evaluation.copies and config.synthetic is not None:
        # The cleaned set is what would be released, so it is what has to keep the gate.
        return _evaluate_cleaned(config, config.synthetic, evaluation)
    _keep_gate(rules, evaluation, config)
    return config.out


def _told_of_model(config: Config) -> dict[str, object] | None:
    """What a model's run says of it, for its card."""
    from medloom.generators.run_folder import RunFolder

    if config.model is None:
        return None
    run = RunFolder(config.model)
    description, split = run.description(), run.splits()[0]
    identity = description["identity"]
    spec = identity["spec"]
    return {
        "family": run.index()["family"],
        "hash of the weights": run.model_hash(),
        "images that it makes": f"{' x '.join(map(str, spec['size']))} pixels, {', '.join(sorted(spec['intensity']))}",
        "patients trained on": len(split.patients.get("train", ())),
        "optimiser steps": identity["options"]["loop"]["steps"],
        "seed": identity["options"]["loop"]["seed"],
        "medloom": description["environment"]["medloom"],
    }


def _evaluate_cleaned(config: Config, synthetic: Path, evaluation: "Evaluation") -> Path:
    """Write the manifest without copies, and evaluate it."""
    from medloom.core.progress import say
    from medloom.data.manifest import read_manifest

    manifest = read_manifest(synthetic, skip_bad=config.skip_bad, need=("path",), need_patients=False)
    copies = {str(copy.synthetic) for copy in evaluation.copies}
    kept = [path not in copies for path in manifest.frame["path"]]
    cleaned = config.out / "cleaned.csv"
    manifest.select(kept).write(cleaned)
    say(f"{len(kept) - sum(kept)} of {len(kept)} synthetic images are listed as copies; the others: {cleaned}")
    cache = config.cache or config.out
    return run(replace(config, synthetic=cleaned, out=config.out / "cleaned", cache=cache, drop_copies=False))


def _keep_gate(rules: "list[Rule]", evaluation: "Evaluation", config: Config) -> None:
    """Say that the gate is passed, or end with what is not.

    Raises:
        GateError: a threshold that is not kept.
        UserError: a threshold of what was not measured.
    """
    from medloom.core.progress import say
    from medloom.evaluation.report.gate import failures

    if not rules:
        return
    failed = failures(rules, evaluation.figures)
    if failed:
        raise GateError(f"{config.gate}: {len(failed)} thresholds are not kept: " + "; ".join(failed) + ".")
    say(f"{config.gate}: all {len(rules)} thresholds are kept.")


def _check_names(config: Config) -> None:
    from medloom.core.seeds import check_seed
    from medloom.downstream.networks import NETWORKS
    from medloom.evaluation.images.features import check_extractor
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
    look_up(NETWORKS, config.network, "--network")
    if config.attack_images < 1:
        raise UserError(f"--attack-images {config.attack_images}: 1 or more.")
    if config.reference_model is not None and config.model is None:
        raise UserError("--reference-model calibrates the attack on --model; name that too.")
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
    from medloom.evaluation.images.comparison import compare

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
        set_apart="local" in config.features or not config.features,
        by=config.by,
    )


def _extractors(config: Config, data: "Comparison") -> list[str]:
    """The extractors of features: those that were named, else the two that the data allow without any download."""
    from medloom.downstream.ssl import LEAST

    if config.features:
        return list(config.features)
    able = {"classifier": data.fit is not None, "local": len(data.seen) >= LEAST}
    return [name for name, possible in able.items() if possible] or ["pixels"]


def _sections(config: Config, data: "Comparison") -> list[str]:
    """The sections to measure: those asked for, else all that the data allow. What is asked for must be possible."""
    from medloom.evaluation.images import alignment, comparison, fidelity, privacy

    possible = {"fidelity": True, "alignment": data.fit is not None, "privacy": data.train is not None, "lint": True}
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


def _measuring(config: Config, data: "Comparison", sections: list[str]) -> "SetOptions":
    """How the sets are measured."""
    from medloom.evaluation.images.measure import Attack, SetOptions

    attack = None
    if config.model is not None:
        attack = Attack(config.model, config.reference_model, config.attack_images, config.device)
    judge, folder = _classifier_options(config), config.cache or config.out
    return SetOptions(sections, _extractors(config, data), judge, folder, config.unit, attack)


def _classifier_options(config: Config) -> "ClassifierOptions":
    import torch

    from medloom.downstream.classifier import ClassifierOptions

    device = "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"
    return ClassifierOptions(network=config.network, steps=config.steps, seed=config.seed, device=device)
