"""The figures of a set of images: fidelity, alignment, copies, and what a model gives away of its training images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError

if TYPE_CHECKING:
    from medloom.downstream.classifier import ClassifierOptions
    from medloom.evaluation.images.classifiers import Workshop
    from medloom.evaluation.images.comparison import Comparison
    from medloom.evaluation.images.features import Extractor, FeatureSet
    from medloom.evaluation.images.report import Evaluation
    from medloom.evaluation.images.sets import ImageSet
    from medloom.evaluation.report.metrics import Figure


@dataclass(frozen=True)
class Attack:
    """An attack on a model.

    Attributes:
        model: its run folder.
        reference: run folder of a model that was trained on none of the images, or None.
        images: most images of a side.
        device: auto, cpu or cuda.
    """

    model: Path
    reference: Path | None
    images: int
    device: str


@dataclass(frozen=True)
class SetOptions:
    """How a set of images is measured.

    Attributes:
        sections: of fidelity, alignment, privacy and lint those that are wanted.
        extractors: names of the extractors of features.
        judge: how the classifier, and with the same network and steps the encoder, are trained.
        folder: for decoded images, features, classifiers and encoders.
        unit: of files that do not state theirs.
        attack: on the model that made the images, or None.
    """

    sections: Sequence[str]
    extractors: Sequence[str]
    judge: "ClassifierOptions"
    folder: Path
    unit: str | None
    attack: Attack | None

    @property
    def seed(self) -> int:
        """Of subsets and resamples."""
        return self.judge.seed


def measure(options: SetOptions, data: "Comparison") -> "Evaluation":
    """Measure what was asked for.

    Raises:
        UserError: images that cannot be read, or are too few.
    """
    from medloom.evaluation.images import alignment, detail, fidelity, lint, privacy, variety
    from medloom.evaluation.images.classifiers import Workshop
    from medloom.evaluation.images.features import make_extractor
    from medloom.evaluation.images.report import Evaluation

    shop = Workshop(options.folder, data.spec, options.judge, options.unit)
    sections, seed = options.sections, options.seed
    by_features = {"fidelity", "privacy"} & set(sections)
    judged = "alignment" in sections or (by_features and "classifier" in options.extractors)
    classifier = shop.classifier(data.fit, alignment.train_on_real) if judged and data.fit else None
    found = Evaluation([], list(data.notes), data.table, {}, _facts(data, classifier), [])
    sets = {"real": data.real, "synthetic": data.synthetic, **({"train": data.train} if data.train else {})}
    extra = ("pixels",) if "privacy" in sections else ()
    sources = _sources(options, data, shop, classifier)
    for name in dict.fromkeys((*options.extractors, *extra)) if by_features else ():
        extractor = make_extractor(name, sources)
        found.extractors[name] = extractor.statement
        features = _features(options, extractor, sets)
        if "fidelity" in sections and name in options.extractors:
            found.add(*fidelity.fidelity_figures(name, features["real"], features["synthetic"], seed))
        if "privacy" in sections:
            found.add(*privacy.copy_figures(name, sets, features, seed, extractor.alignment))
    if "fidelity" in sections:
        found.add(*variety.variety_figures(shop, data.real, data.synthetic, classifier, seed))
        found.add(*detail.detail_figures(shop, data.real, data.synthetic, seed))
    if "privacy" in sections:
        found.add([privacy.identical_files(sets, seed)])
        if options.attack is not None:
            found.add(*_membership(options, options.attack, data))
    if classifier is not None and "alignment" in sections:
        found.add(*alignment.alignment_figures(shop, classifier, data, seed))
    if "lint" in sections:
        figures, findings = lint.lint_figures(data.synthetic, data.real, seed, options.unit)
        found.add(figures)
        found = replace(found, findings=findings)
    return found


def _sources(options: SetOptions, data: "Comparison", shop: "Workshop", classifier: Any) -> Any:
    """What extractors are made from; the encoder is trained only when it is asked for."""
    from medloom.downstream.ssl import EncoderOptions
    from medloom.evaluation.images.features import Sources

    judge = options.judge
    told = EncoderOptions(network=judge.network, steps=judge.steps, seed=judge.seed, device=judge.device)
    return Sources(data.spec, classifier, judge.device, partial(shop.encoder, data.seen, told))


def _features(options: SetOptions, extractor: "Extractor", sets: "Mapping[str, ImageSet]") -> "dict[str, FeatureSet]":
    from medloom.evaluation.images.features import extract

    used = [name for name in sets if name != "train" or "privacy" in options.sections]
    return {name: extract(extractor, sets[name], options.folder / "features", options.unit) for name in used}


def _membership(options: SetOptions, attack: Attack, data: "Comparison") -> "tuple[list[Figure], list[str]]":
    """An attack on the model by its losses, beside its controls; a note where the model has none."""
    from medloom.evaluation.images.features import Sources, extract, make_extractor
    from medloom.evaluation.images.membership import LEAST_PATIENTS, membership_figures
    from medloom.generators.image_losses import DRAWS, attack_refusal, image_losses

    refusal = attack_refusal(attack.model)
    if refusal:
        return [], [f"No membership inference: {refusal}."]
    sides = [_some(members, attack.images, options.seed) for members in (_members(attack.model, data), data.real)]
    if min(len(set(side.units)) for side in sides) < LEAST_PATIENTS:
        return [], [f"No membership inference: it needs {LEAST_PATIENTS} patients on each side."]
    samples, hashes = [s for side in sides for s in side.samples], [h for side in sides for h in side.hashes]
    told = (samples, hashes, options.folder / "attack", options.unit, attack.device)
    scores, how = -image_losses(attack.model, *told), f"Score: minus the training loss, a mean over {DRAWS} draws"
    if attack.reference is not None:
        scores += image_losses(attack.reference, *told)
        how += ", plus that of a model that was trained on other patients"
    extractor = make_extractor("pixels", Sources(data.spec, None))
    one, other = (extract(extractor, side, options.folder / "features", options.unit).values for side in sides)
    first, units = len(sides[0]), (sides[0].units, sides[1].units)
    return membership_figures(scores[:first], scores[first:], units, (one, other), options.seed, f"{how}.")


def _members(model: Path, data: "Comparison") -> "ImageSet":
    """The images of the training manifest that the model was trained on, those held out for validation left out.

    Raises:
        UserError: there are none.
    """
    from medloom.generators.run_folder import RunFolder

    if data.train is None:
        raise UserError("membership inference needs --train, the manifest of the images that --model was trained on.")
    seen = set(RunFolder(model).splits()[0].seen(list(data.train.units)))
    rows = [row for row, patient in enumerate(data.train.units) if patient in seen]
    if not rows:
        raise UserError(f"{model} was trained on no patient of --train; give the manifest that it was trained on.")
    return data.train.rows(rows)


def _some(members: "ImageSet", count: int, seed: int) -> "ImageSet":
    """At most so many images, drawn at random."""
    import numpy as np

    from medloom.core.seeds import numpy_generator

    order = numpy_generator("attack", seed, members.name).permutation(len(members))
    return members.rows(np.sort(order[:count]))


def _facts(data: "Comparison", classifier: Any) -> dict[str, Any]:
    """What scores.json says of the evaluation itself."""
    from importlib.metadata import version

    import medloom
    from medloom.generators.preparation import LIBRARIES

    told = None
    if classifier is not None:
        told = {"network": classifier.name, "classes": list(classifier.classes), "selected": classifier.validation}
    return {
        "label": data.label,
        "spec": data.spec.to_dict(),
        "classifier": told,
        "versions": {"medloom": medloom.__version__, **{name: version(name) for name in LIBRARIES}},
    }
