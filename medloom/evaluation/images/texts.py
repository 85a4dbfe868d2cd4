"""Do images match their texts, by an encoder of both?"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medloom.core.seeds import numpy_generator
from medloom.evaluation.images.comparison import Comparison
from medloom.evaluation.images.features import FeatureSet, extract
from medloom.evaluation.images.section import Found, Inputs, Plots, Section
from medloom.evaluation.images.sets import ImageSet, Subsets
from medloom.evaluation.images.shuffles import range_over, shuffled_within
from medloom.evaluation.report.metrics import EVERYTHING, HIGHER, Metric, Reference, Sampled, proportion
from medloom.evaluation.report.plots import FRACTION, Panel
from medloom.metrics.retrieval import retrieved
from medloom.metrics.uncertainty import Interval, bootstrap_mean

COSINE = "cosine of image and text"
BY_IMAGE, BY_TEXT = "text found by image, top {}", "image found by text, top {}"
TOPS = (1, 5)
SHUFFLED = ", shuffled texts"
HELD_OUT = "held-out real images"
UNRELATED = "no power here: held-out real images match their own texts no better than shuffled ones"
LEAST_TEXTS, MOST_CANDIDATES = 10, 100
LEAST = 10
DRAWS, SHUFFLES = 20, 100

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images and their texts in one space.

    Attributes:
        images: unit vectors `(n, J)`.
        texts: unit vectors `(t, J)` of the different texts.
        owner: which text is each image's, `(n,)`.
        units: patient or prompt of each image, `(n,)`.
        counted: what the units are.
        groups: modality of each image, `(n,)`.
        parts: which images are in each subset that is measured on its own.
    """

    images: Vectors
    texts: Vectors
    owner: NDArray[np.intp]
    units: NDArray[np.generic]
    counted: str
    groups: NDArray[np.str_]
    parts: Subsets = field(default_factory=dict)

    @property
    def cosines(self) -> Floats:
        """Of each image and its text, -1 to 1."""
        return self.cosines_with(self.owner)

    def cosines_with(self, owner: NDArray[np.intp]) -> Floats:
        """Of each image and the text of a number."""
        return np.asarray((self.images * self.texts[owner]).sum(axis=1, dtype=np.float64))

    @property
    def beyond_shuffled(self) -> Floats:
        """Of each image, the cosine with its text less its mean cosine with the texts of its modality."""
        means = np.empty(len(self.owner))
        for group in np.unique(self.groups):
            rows = self.groups == group
            means[rows] = self.images[rows] @ self.texts[self.owner[rows]].mean(axis=0)
        return self.cosines - means

    def rows(self, rows: NDArray[np.bool_]) -> "Pairs":
        """Some images, without subsets."""
        own = self.owner[rows], self.units[rows]
        return Pairs(self.images[rows], self.texts, *own, self.counted, self.groups[rows])


def measure(inputs: Inputs) -> Found:
    """Cosines and retrieval of synthetic images, held-out real ones, and a set made without a model."""
    data, joint = inputs.data, inputs.data.joint
    if joint is None:
        raise ValueError("texts without an encoder, which `needs` asks for")
    extractor = joint.extractor(data.spec, set(data.real.groups))
    real, synthetic = data.real.with_text(), data.synthetic.with_text()
    kept = inputs.cache.folder / "features"
    seen = {members.name: extract(extractor, members, kept, inputs.cache.unit) for members in (real, synthetic)}
    replaced = [row for row, text in enumerate(inputs.replaced.texts) if text.strip()]
    control = inputs.control_by(extractor).rows(np.asarray(replaced, np.intp))
    distinct = list(dict.fromkeys([*real.texts, *synthetic.texts]))
    vectors = joint.read(distinct)
    pairs = [
        _pairs(features, members, distinct, vectors)
        for features, members in (
            (seen[synthetic.name], synthetic),
            (seen[real.name], real),
            (control, inputs.replaced.rows(replaced)),
        )
    ]
    cut = sum(count > joint.max_tokens for count in joint.count_tokens(distinct))
    notes = []
    if cut:
        notes.append(
            f"{cut} of {len(distinct)} texts are longer than the {joint.max_tokens} tokens that the encoder of"
            " --pair-encoder reads, and were cut."
        )
    if joint.run is None:
        notes.append(
            "A CLIP model does not say which patients it was trained on: held-out real images may be among them."
        )
    metrics = pair_metrics(pairs[0], pairs[1], pairs[2], inputs.seed)
    return Found(metrics, notes, f"Images and texts were compared by {joint.statement}.")


def _pairs(features: FeatureSet, members: ImageSet, distinct: Sequence[str], vectors: Vectors) -> Pairs:
    """The pairs of a set, from vectors of all different texts."""
    place = {text: number for number, text in enumerate(distinct)}
    names, owner = np.unique([place[text] for text in members.texts], return_inverse=True)
    units = np.asarray(members.units)
    return Pairs(features.values, vectors[names], owner, units, members.counted, features.groups, members.parts)


def lacking(data: Comparison) -> str | None:
    """Why images and texts cannot be compared, or None."""
    remedies = ("; name the table of their texts with --conditions", "; name their column with --columns text=NAME")
    for members, what, remedy in zip(
        (data.synthetic, data.real), ("synthetic", "held-out real"), remedies, strict=True
    ):
        texts = {text for text in members.texts if text.strip()}
        if len(texts) < LEAST_TEXTS:
            return (
                f"{what} images have {len(texts)} different texts and it needs {LEAST_TEXTS}{'' if texts else remedy}"
            )
    return None


def pair_metrics(synthetic: Pairs, real: Pairs, control: Pairs, seed: int) -> list[Metric]:
    """How well images match their texts, the same of held-out real images, and of shuffled texts.

    Args:
        synthetic: synthetic images with their texts.
        real: held-out real images with theirs.
        control: images made without a model with the texts that they stand for.
        seed: of draws and shuffles.
    """
    controlled = len(control.texts) >= LEAST_TEXTS
    sets = {"synthetic": synthetic, "real": real, **({"control": control} if controlled else {})}
    candidates = min(MOST_CANDIDATES, *(len(known.texts) for known in sets.values()))
    metrics = _cosine_metrics(sets, seed)
    found = {name: _Retrieval.of(known, candidates, seed) for name, known in sets.items()}
    for what in (BY_IMAGE, BY_TEXT):
        for top in TOPS:
            own, theirs = (found[name].rate(what, top) for name in ("synthetic", "real"))
            chance = found["real"].shuffled(what, top)
            note = f"{candidates} candidates: different texts with one image each; chance is {top / candidates:.2g}."
            metric = Metric.of(
                own,
                name=what.format(top),
                counted="texts",
                reference=Reference.of(theirs, HELD_OUT),
                better=HIGHER,
                note=note,
                control=found["control"].rate(what, top).value if controlled else None,
                blind=UNRELATED if theirs.low <= chance.value else "",
            )
            metrics += [metric, _null(metric, found["synthetic"].shuffled(what, top), DRAWS, "draws")]
    order = list(SECTION.metrics)
    return sorted(metrics, key=lambda metric: order.index(metric.name))


def _cosine_metrics(sets: dict[str, Pairs], seed: int) -> list[Metric]:
    """The mean cosine of all images and of subsets, and that of shuffled texts."""
    synthetic, real = sets["synthetic"], sets["real"]
    metrics = []
    everyone = [np.ones(len(known.owner), bool) for known in (synthetic, real)]
    nobody = np.zeros(len(real.owner), bool)
    parts = {
        EVERYTHING: everyone,
        **{name: [own, real.parts.get(name, nobody)] for name, own in synthetic.parts.items()},
    }
    for name, (own, theirs) in parts.items():
        sampled = Sampled.of(synthetic.units[own], synthetic.counted)
        if min(own.sum(), theirs.sum()) < LEAST or len(set(real.units[theirs])) < 2:
            continue
        held_out = real.rows(theirs)
        reference, related = (
            bootstrap_mean(values, held_out.units, seed) for values in (held_out.cosines, held_out.beyond_shuffled)
        )
        metrics.append(
            Metric.of(
                bootstrap_mean(synthetic.cosines[own], sampled.units, seed),
                name=COSINE,
                subset=name,
                counted=sampled.counted,
                reference=Reference.of(reference, HELD_OUT),
                better=HIGHER,
                note=sampled.note,
                control=float(sets["control"].cosines.mean()) if "control" in sets and name == EVERYTHING else None,
                blind=UNRELATED if related.low <= 0 else "",
            )
        )
    return [*metrics, *(_null(m, _shuffled_cosine(synthetic, seed), SHUFFLES, "shuffles") for m in metrics[:1])]


def _null(metric: Metric, found: Interval, times: int, what: str) -> Metric:
    """The row of a metric with shuffled texts."""
    return Metric.of(
        found,
        name=f"{metric.name}{SHUFFLED}",
        counted="images" if metric.name == COSINE else "texts",
        reference=Reference("the same with the true texts", metric.value),
        note=f"The range is over {times} {what} within each modality.",
    )


def _shuffled_cosine(pairs: Pairs, seed: int) -> Interval:
    """The mean cosine if texts are shuffled among images of the same modality, with its range."""
    rng = numpy_generator("shuffled texts", seed)
    means = [float(pairs.cosines_with(shuffled_within(pairs.owner, pairs.groups, rng)).mean()) for _ in range(SHUFFLES)]
    return range_over(means, len(pairs.owner))


@dataclass(frozen=True, eq=False)
class _Retrieval:
    """How often images and texts find each other among as many candidates.

    Attributes:
        hits: direction and rank to whether each text's image, or the text itself, was found, a mean over draws `(t,)`.
        nulls: the same to the mean over texts in each draw, with shuffled texts.
        units: patient or prompt of each text.
    """

    hits: dict[tuple[str, int], Floats]
    nulls: dict[tuple[str, int], list[float]]
    units: NDArray[np.generic]

    @classmethod
    def of(cls, pairs: Pairs, candidates: int, seed: int) -> "_Retrieval":
        """Draws of different texts with one image each, so that sets with more texts or images have no harder task."""
        rng = numpy_generator("candidates", seed)
        count = len(pairs.texts)
        keys = [(what, top) for what in (BY_IMAGE, BY_TEXT) for top in TOPS]
        sums, drawn = {key: np.zeros(count) for key in keys}, np.zeros(count)
        nulls: dict[tuple[str, int], list[float]] = {key: [] for key in keys}
        of_text = [np.flatnonzero(pairs.owner == text) for text in range(count)]
        for _ in range(DRAWS):
            texts = rng.permutation(count)[:candidates]
            rows = np.array([of_text[text][rng.integers(len(of_text[text]))] for text in texts])
            drawn[texts] += 1
            for own, is_null in ((texts, False), (shuffled_within(texts, pairs.groups[rows], rng), True)):
                # `own` is which text each image counts for.
                for what, top in keys:
                    sides = (pairs.images[rows], own), (pairs.texts[texts], texts)
                    (asks, asked), (answers, answering) = sides if what == BY_IMAGE else sides[::-1]
                    found = retrieved(asks, answers, asked.tolist(), answering.tolist(), top)
                    if is_null:
                        nulls[what, top].append(float(found.mean()))
                    else:
                        sums[what, top][texts] += found
        known = drawn > 0
        units = np.array([pairs.units[rows[0]] for rows in of_text])
        return cls({key: total[known] / drawn[known] for key, total in sums.items()}, nulls, units[known])

    def rate(self, what: str, top: int) -> Interval:
        """The fraction that is found, with an interval over patients or prompts."""
        return proportion(self.hits[what, top], self.units)

    def shuffled(self, what: str, top: int) -> Interval:
        """The same with shuffled texts, with its range over draws."""
        return range_over(self.nulls[what, top], len(self.hits[what, top]))


def plots(metrics: Sequence[Metric]) -> Plots:
    """A plot of the cosine, and one of what is found."""
    panels = [
        Panel(title, [(metric.name, metric) for metric in metrics if chosen(metric)], limits)
        for title, limits, chosen in (
            ("mean", None, lambda metric: metric.name.startswith(COSINE) and metric.subset == EVERYTHING),
            ("fraction of texts", FRACTION, lambda metric: not metric.name.startswith(COSINE)),
        )
    ]
    return [(title, [panel]) for title, panel in zip(("cosine", "retrieval"), panels, strict=True) if panel.rows]


def _meanings() -> dict[str, str]:
    """The metrics of the section with their meanings."""
    known = {COSINE: "cosine of the vectors of an image and of its text; a mean over images"}
    for what, asks, finds in ((BY_IMAGE, "images", "text"), (BY_TEXT, "texts", "image")):
        for top in TOPS:
            near = "the nearest" if top == 1 else f"among the {top} nearest"
            known[what.format(top)] = f"fraction of {asks} whose own {finds} is {near} of all candidates"
    shuffled = "the same after shuffling texts within a modality: what chance and the modality explain"
    return known | {f"{name}{SHUFFLED}": shuffled for name in known}


SECTION = Section(
    heading="Images and their texts",
    question="Do images match their texts?",
    metrics=_meanings(),
    measure=measure,
    plots=plots,
    needs=("pair encoder",),
    lacking=lacking,
    requires=f"an encoder of images and texts (`--pair-encoder`); {LEAST_TEXTS} different texts of synthetic and of"
    " held-out real images",
)
