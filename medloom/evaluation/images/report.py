"""The report of an evaluation: scores.json for programs, and one self-contained report.html for people."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medloom.core.files import write_json, write_text
from medloom.core.plots import grid
from medloom.core.seeds import numpy_generator
from medloom.core.spec import ImageSpec
from medloom.data.dataset import ImageSource
from medloom.evaluation.images import alignment, detail, fidelity, lint, membership, privacy, variety
from medloom.evaluation.images.internal_report import INTERNAL
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import EVERYTHING, Figure
from medloom.evaluation.report.pages import embedded, page
from medloom.evaluation.report.plots import Panel, draw

SCORES, HTML = "scores.json", "report.html"
COPIES, FINDINGS = "copies-internal.csv", "lint-internal.csv"
SCHEMA = 1
TEMPLATE = "report.html"
SHOWN_GROUPS, SHOWN_IMAGES, THUMBNAIL = 12, 8, 96

MEANINGS: dict[str, str] = {
    fidelity.FD: "distance between the two clouds of features; 0 only for endless equal sets, lower is better",
    fidelity.FD_INFINITY: "the same, extrapolated to endless sets, where equal distributions have 0",
    "precision": "share of synthetic images that look like some real image; low means unrealistic images",
    "recall": "share of real images that look like some synthetic image; low means missing variety",
    "density": "how many real images a synthetic one is close to, over 5; about 1 for equal sets",
    "coverage": "share of real images with a synthetic one among their neighbours; low means missing kinds of images",
    fidelity.KERNEL: "squared distance of the clouds by a cubic kernel (KID, of all pairs); about 0 for equal sets",
    detail.DETAIL: "share of an image's variance in its finest half of frequencies; below 1 means blurred images",
    variety.SIMILARITY: "how alike two images of one prompt are, 0 to 1; far above real pairs means too little variety",
    variety.SCORE: "how sure and how varied the classes are that a classifier of real images sees",
    fidelity.VENDI: "how many different images there are in effect among n; the reference is that of real images",
    alignment.RECOGNITION: "share of synthetic images that a classifier of real images assigns to their condition",
    alignment.SHUFFLED: "the same when the conditions are dealt to other images: what chance and the modality explain",
    alignment.UTILITY: "accuracy on held-out real images of a classifier that has seen synthetic images only",
    alignment.UTILITY_SHARE: "that accuracy divided by the one of a classifier trained on real images",
    privacy.COPIED: "share of synthetic images closer to a training image than 99.9 % of unseen real images are",
    privacy.EXCESS: "share of copies less the same share among other unseen real images; above 0 means copying",
    privacy.BY_PATIENT: "the same with each prompt or patient, not each image, counting once",
    privacy.AUTHENTIC: "share of images farther from their nearest training image than other patients' images are",
    privacy.DISTANCE: "median distance to the nearest training image over that of held-out images; 0 for copies",
    membership.ATTACK: "area under the ROC curve of telling training images from held-out ones by the model's loss",
    membership.HALVES: "control: the same between two halves of the training images, where nothing can be told",
    membership.BLIND: "control: the same by a classifier that sees images and no model",
    membership.FOUND: "share of training images that the attack finds when it is wrong about 1 % of the others",
    privacy.IDENTICAL: "share of synthetic files that are, byte for byte, files of the training set",
    **lint.MEANINGS,
}


@dataclass(frozen=True)
class Evaluation:
    """What a report tells.

    Attributes:
        figures: all figures.
        notes: what a reader has to know of how they came about.
        sets: a row each: what, file, role, images, units, and images by modality.
        extractors: name -> preprocessing and features, in words.
        facts: further values for scores.json (options, versions).
        copies: pairs of a synthetic and a training image.
        findings: what may identify someone in single images.
    """

    figures: list[Figure]
    notes: list[str]
    sets: Sequence[Mapping[str, Any]]
    extractors: dict[str, str]
    facts: Mapping[str, Any]
    copies: list[privacy.Copy]
    findings: Sequence[lint.Finding] = ()

    def add(self, figures: Sequence[Figure], notes: Sequence[str] = (), copies: Sequence[privacy.Copy] = ()) -> None:
        """Add what a section found."""
        self.figures.extend(figures)
        self.notes.extend(notes)
        self.copies.extend(copies)


METRICS = tuple(MEANINGS)


def begin_report(out: Path) -> None:
    """Mark a folder as an evaluation's, so that one that was cut short can be run again in the same place."""
    if not (out / SCORES).exists():
        write_json(out / SCORES, {"schema": SCHEMA, "finished": False})


def write_report(out: Path, evaluation: Evaluation, synthetic: ImageSet, spec: ImageSpec, unit: str | None) -> None:
    """Write scores.json, report.html and, where there are copies, copies-internal.csv, and lint-internal.csv, which
    are not for sharing.

    Args:
        out: the folder.
        evaluation: what to tell.
        synthetic: the set whose images are shown; no real image is.
        spec: the space in which they are read.
        unit: what the values of files are that do not say so.
    """
    for internal in (COPIES, FINDINGS, INTERNAL):
        (out / internal).unlink(missing_ok=True)
    if evaluation.copies:
        privacy.write_copies(out / COPIES, evaluation.copies)
    if evaluation.findings:
        lint.write_findings(out / FINDINGS, evaluation.findings)
    write_text(out / HTML, render(evaluation, _strips(synthetic, spec, unit)))
    write_json(out / SCORES, scores(evaluation))


def scores(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON values: every figure with value, low, high, n and reference."""
    return {
        "schema": SCHEMA,
        "finished": True,
        "figures": [figure.to_dict() for figure in evaluation.figures],
        "notes": list(evaluation.notes),
        "sets": [dict(entry) for entry in evaluation.sets],
        "extractors": dict(evaluation.extractors),
        "copies": {"pairs": len(evaluation.copies), "file": COPIES if evaluation.copies else None},
        "findings": {"images": len(evaluation.findings), "file": FINDINGS if evaluation.findings else None},
        **evaluation.facts,
    }


def write_judged(
    path: Path,
    figures: Sequence[Figure],
    verdicts: Sequence[Any],
    notes: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Write scores.json of figures of which some have to hold."""
    told = {"figures": [figure.to_dict() for figure in figures], "verdicts": [vars(verdict) for verdict in verdicts]}
    write_json(path, {"schema": SCHEMA, "finished": True, **told, "notes": list(notes), **facts})


def render(evaluation: Evaluation, strips: Sequence[tuple[str, bytes]]) -> str:
    """The page.

    Args:
        evaluation: what it tells.
        strips: a heading and a PNG of synthetic images each.
    """
    return page(
        TEMPLATE,
        evaluation=evaluation,
        sections=[
            _section(name, evaluation.figures)
            for name in (fidelity.SECTION, alignment.SECTION, privacy.SECTION, lint.SECTION)
        ],
        glance=[figure for figure in evaluation.figures if figure.subset == EVERYTHING],
        strips=[(heading, embedded(picture)) for heading, picture in strips],
        meanings=MEANINGS,
        copies_file=COPIES,
        findings_file=FINDINGS,
    )


def _section(name: str, figures: Sequence[Figure]) -> dict[str, Any]:
    own = [figure for figure in figures if figure.section == name]
    return {
        "name": name,
        "figures": own,
        "plots": [(title, embedded(draw(panels))) for title, panels in PANELS[name](own)] if own else [],
        "metrics": list(dict.fromkeys(figure.metric for figure in own)),
    }


def _fidelity_panels(figures: Sequence[Figure]) -> list[tuple[str, list[Panel]]]:
    plots = []
    for extractor in dict.fromkeys(figure.extractor for figure in figures if figure.extractor):
        panels = []
        for metric in fidelity.BOUNDS:
            rows = [(f.subset, f) for f in figures if f.extractor == extractor and f.metric == metric]
            shares = metric in ("precision", "recall", "coverage")
            panels.append(Panel(metric, rows, (-0.03, 1.03) if shares else None))
        plots.append((f"features: {extractor}", panels))
    return plots


def _alignment_panels(figures: Sequence[Figure]) -> list[tuple[str, list[Panel]]]:
    rows = [
        (f.metric if f.subset == EVERYTHING else f"recognition of {f.subset}", f)
        for f in figures
        if f.metric != alignment.UTILITY_SHARE
    ]
    return [("recognition and use", [Panel("share of images", rows, (-0.03, 1.03))])]


def _privacy_panels(figures: Sequence[Figure]) -> list[tuple[str, list[Panel]]]:
    rows = [(f"{f.extractor}: {f.subset}", f) for f in figures if f.metric == privacy.EXCESS]
    return [("copies of training images", [Panel(privacy.EXCESS, rows)])] if rows else []


def _lint_panels(figures: Sequence[Figure]) -> list[tuple[str, list[Panel]]]:
    return [("findings", [Panel("share of images", [(f.metric, f) for f in figures], (-0.03, 1.03))])]


PANELS = {
    fidelity.SECTION: _fidelity_panels,
    alignment.SECTION: _alignment_panels,
    privacy.SECTION: _privacy_panels,
    lint.SECTION: _lint_panels,
}


def _strips(synthetic: ImageSet, spec: ImageSpec, unit: str | None) -> list[tuple[str, bytes]]:
    """A row of synthetic images for each class or modality, the largest groups first."""
    if spec.spatial_dims == 2:
        spec = replace(spec, size=(THUMBNAIL, THUMBNAIL), resize="pad")
    names = np.array([str(label or group) for label, group in zip(synthetic.labels, synthetic.groups, strict=True)])
    order = numpy_generator("examples").permutation(len(names))
    source = ImageSource(synthetic.samples, spec, unit, {})
    strips = []
    for name in sorted(set(names), key=lambda name: (-int((names == name).sum()), name))[:SHOWN_GROUPS]:
        rows = [int(row) for row in order if names[row] == name][:SHOWN_IMAGES]
        strips.append((f"{name} ({int((names == name).sum())} images)", _png(list(source.images(rows)))))
    return strips


def _png(images: list[Any]) -> bytes:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    information = PngInfo()
    information.add_text("SYNTHETIC", "YES")
    stream = io.BytesIO()
    Image.fromarray(grid(images, len(images))).save(stream, "PNG", pnginfo=information)
    return stream.getvalue()
