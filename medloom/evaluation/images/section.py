"""What a section of the report is, and what it measures from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.files import hash_json
from medloom.core.spec import ImageSpec
from medloom.data.dataset import ImageSource
from medloom.downstream.classifier import Classifier
from medloom.evaluation.images.cache import EvaluationCache, train_on_real
from medloom.evaluation.images.comparison import Comparison
from medloom.evaluation.images.copy_search import CopySearch
from medloom.evaluation.images.features import Extractor, FeatureSet, Sources, extract, kept_features, make_extractor
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.images.stand_ins import MOST, MOST_VOLUMES, sampled, stand_ins
from medloom.evaluation.report.metrics import Metric
from medloom.evaluation.report.plots import Panel

Plots = list[tuple[str, list[Panel]]]
Images = NDArray[np.floating]

# Real images outside the reference, if there are so many, scale textures and make the set without a model.
LEAST_KNOWN = 30
MOST_KNOWN, LEAST_PER_CLASS = 1000, 10


@dataclass(frozen=True)
class Attack:
    """A membership inference attack on the generator.

    Attributes:
        model: its run folder.
        reference: run folder of a model that was trained on none of the images, or None.
        images: largest number of images per side.
        device: auto, cpu or cuda.
    """

    model: Path
    reference: Path | None
    images: int
    device: str


@dataclass(frozen=True, eq=False)
class Inputs:
    """What sections measure from; classifier, encoder and features are computed when they are first needed.

    Attributes:
        data: the sets of images.
        cache: decodes images, trains networks.
        copies: looks for copies between the sets.
        extractors: names of the feature extractors.
        metrics: names of further metrics on features, of `medloom.metrics.METRICS`.
        attack: on the generator, or None.
        with_classifier: whether a classifier of real images is wanted, if they have a label.
    """

    data: Comparison
    cache: EvaluationCache
    copies: CopySearch
    extractors: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    attack: Attack | None = None
    with_classifier: bool = False
    _made: dict[str, Extractor] = field(default_factory=dict)
    _stand_ins: dict[str, Images] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Of subsets and resamples."""
        return self.cache.options.seed

    @cached_property
    def classifier(self) -> Classifier | None:
        """Trained on real images; None if it is not wanted or there is no label.

        Raises:
            UserError: images that it cannot be trained on.
        """
        fit = self.data.fit if self.with_classifier else None
        return None if fit is None else self.cache.classifier(fit, train_on_real)

    def extractor(self, name: str) -> Extractor:
        """The feature extractor of a name.

        Raises:
            UserError: see `make_extractor`.
        """
        if name not in self._made:
            sources = Sources(
                self.data.spec,
                self.classifier,
                self.cache.options.device,
                lambda: self.cache.encoder(self.data.other_real),
                lambda: self.images(self._everyone, self._known, self.data.spec),
            )
            self._made[name] = make_extractor(name, sources)
        return self._made[name]

    def features(self, name: str, members: ImageSet) -> FeatureSet:
        """Features of a set by the extractor of a name.

        Raises:
            UserError: an image that cannot be read.
        """
        return extract(self.extractor(name), members, self.cache.folder / "features", self.cache.unit)

    @property
    def _everyone(self) -> ImageSet:
        """Real images outside the reference where there are enough."""
        return self.data.other_real if len(self.data.other_real) >= LEAST_KNOWN else self.data.real

    @cached_property
    def _known(self) -> NDArray[np.intp]:
        """Rows of `_everyone`: some of each class."""
        names = classes(self._everyone)
        return sampled(names, self.seed, max(MOST_KNOWN // len(set(names)), LEAST_PER_CLASS))

    def images(self, members: ImageSet, rows: NDArray[np.intp], spec: ImageSpec) -> Images:
        """Some images of a set in a space, `(N, C, *size)` in [-1, 1]; in that of the evaluation they are on disk.

        Raises:
            UserError: an image that cannot be read.
        """
        if spec == self.data.spec:
            return np.asarray(self.cache.images(members)[rows])
        return ImageSource(members.samples, spec, self.cache.unit, {}).images(rows.tolist())

    @cached_property
    def replaced(self) -> ImageSet:
        """The synthetic images for which `stand_ins` has one: all, or as many as are needed."""
        synthetic = self.data.synthetic
        most = MOST if self.data.spec.spatial_dims == 2 else MOST_VOLUMES
        return synthetic.rows(np.unique(np.linspace(0, len(synthetic) - 1, min(most, len(synthetic))).astype(int)))

    def stand_ins(self, spec: ImageSpec) -> Images:
        """A set made without a model, one image for each of `replaced`; see `stand_ins.stand_ins`."""
        key = spec.fingerprint()
        if key not in self._stand_ins:
            known, names = self.images(self._everyone, self._known, spec), classes(self._everyone.rows(self._known))
            self._stand_ins[key] = stand_ins(known, names, classes(self.replaced), self.seed)
        return self._stand_ins[key]

    def control(self, name: str) -> FeatureSet:
        """Features of the set made without a model by the extractor of a name; they are kept on disk."""
        return self.control_by(self.extractor(name))

    def control_by(self, extractor: Extractor) -> FeatureSet:
        """Features of the set made without a model by an extractor; they are kept on disk."""
        rows = self.replaced
        known = self._everyone.rows(self._known)
        made_from = [list(known.hashes), classes(known), classes(rows), self.seed]
        path = self.cache.folder / "features" / f"control-{hash_json([extractor.identity, made_from])}.npy"
        values = kept_features(path, lambda: extractor.of(self.stand_ins(extractor.spec)))
        return FeatureSet(values, np.arange(len(rows)), np.asarray(rows.groups), rows.tags)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the extractors whose features were computed."""
        return tuple(self._made)

    @property
    def facts(self) -> dict[str, object]:
        """For scores.json: the statement of each extractor that was used, the classifier, and the pair encoder."""
        used: Classifier | None = vars(self).get("classifier")
        trained = used and {"network": used.name, "classes": list(used.classes), "selected": used.validation}
        joint = self.data.joint and {"statement": self.data.joint.statement, "identity": self.data.joint.identity}
        used_by_name = {name: extractor.statement for name, extractor in self._made.items()}
        return {"extractors": used_by_name, "classifier": trained, "pair_encoder": joint}


def classes(members: ImageSet) -> list[str]:
    """The class of each image; its modality where it has none."""
    return [str(label or group) for label, group in zip(members.labels, members.groups, strict=True)]


@dataclass(frozen=True)
class Found:
    """What a section found.

    Attributes:
        metrics: in the order of the report.
        notes: what a reader has to know.
        remark: a paragraph below the section's table.
        files: name of a file that is not for sharing, to what writes it; names end in -internal.csv or -internal.html.
        unreleasable: synthetic images that `--drop-copies` leaves out.
        meanings: of metrics that the section's row does not name.
    """

    metrics: list[Metric]
    notes: list[str] = field(default_factory=list)
    remark: str = ""
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    unreleasable: frozenset[Path] = frozenset()
    meanings: Mapping[str, str] = field(default_factory=dict)


# What the user has to give for a section, to whether it is there and how to give it.
NEEDS: Mapping[str, tuple[Callable[[Comparison], bool], str]] = {
    "training images": (
        lambda data: data.train is not None,
        "--train, the manifest of the images that the generator was trained on",
    ),
    "classes": (
        lambda data: data.fit is not None,
        "a class of each image: name a column of both manifests with --label (they do not both have a label, finding or"
        " class with 2 to 100 values, and there is one modality)",
    ),
    "pair encoder": (
        lambda data: data.joint is not None,
        "--pair-encoder, a run folder of `medloom train text-encoder` or a folder of a transformers CLIP model",
    ),
}


@dataclass(frozen=True)
class Section:
    """A section of the report: one file, and one row of `sections.SECTIONS`.

    Attributes:
        heading: in the report.
        question: that it answers.
        metrics: name of each metric to its meaning.
        measure: measures the section.
        plots: a title and panels for each plot of its metrics.
        needs: what the user has to give, names in NEEDS; without it the section is left out unless it is asked for.
        lacking: says why these sets cannot be measured and how many images it needs, or gives None; the section is then
            left out unless it is asked for.
        requires: `needs` and `lacking` in words, for the documentation.
    """

    heading: str
    question: str
    metrics: Mapping[str, str]
    measure: Callable[[Inputs], Found]
    plots: Callable[[Sequence[Metric]], Plots] = lambda metrics: []
    needs: tuple[str, ...] = ()
    lacking: Callable[[Comparison], str | None] = lambda data: None
    requires: str = "any images"
