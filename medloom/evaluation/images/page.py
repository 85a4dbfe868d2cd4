"""The page of an evaluation of a set of images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medloom.core.seeds import numpy_generator
from medloom.core.spec import ImageSpec
from medloom.data.dataset import ImageSource
from medloom.evaluation.images.section import Found, Inputs, classes
from medloom.evaluation.images.sections import SECTIONS
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.plots import draw, strip
from medloom.evaluation.report.report import Report, embedded, page
from medloom.metrics.matrices import squared_distances

STRIPS, IMAGES_PER_STRIP, THUMBNAIL = 12, 8, 128

Rows = NDArray[np.intp]


def images_page(report: Report, found: Mapping[str, Found], strips: Sequence[tuple[str, bytes]]) -> str:
    """The page as HTML.

    Args:
        report: all metrics and notes; its facts hold `sets` and `extractors`.
        found: name of each measured section to what it found.
        strips: a heading and a PNG of synthetic images each; see `synthetic_strips`.
    """
    sections = []
    for name, own in found.items():
        section, metrics = SECTIONS[name], [metric for metric in report.metrics if metric.section == name]
        if metrics:
            sections.append(
                {
                    "heading": section.heading,
                    "question": section.question,
                    "metrics": metrics,
                    "meanings": Report(metrics).meanings({**section.metrics, **own.meanings}),
                    "plots": [(title, embedded(draw(panels))) for title, panels in section.plots(metrics)],
                    "remark": own.remark,
                }
            )
    return page(
        "images.html",
        report=report,
        sections=sections,
        strips=[(heading, embedded(picture)) for heading, picture in strips],
    )


def unlike_strips(inputs: Inputs) -> list[tuple[str, bytes]]:
    """For each extractor whose features were used, the synthetic images farthest from any held-out real image."""
    strips = []
    for name in inputs.used:
        rows, _ = least_like_real(inputs, name)
        heading = (
            f"The {len(rows)} least like any held-out real image, by {name} (the largest distances to the nearest)"
        )
        strips.append((heading, strip_of(inputs.data.synthetic.rows(rows), inputs.data.spec, inputs.cache.unit)))
    return strips


def least_like_real(inputs: Inputs, extractor: str) -> tuple[Rows, Rows]:
    """Rows of the synthetic images farthest from any held-out real image, and of the nearest real image of each."""
    sets = (inputs.data.real, inputs.data.synthetic)
    real, ours = (inputs.features(extractor, members).values for members in sets)
    centre = real.mean(axis=0)
    distances = [(part.argmin(axis=1), part.min(axis=1)) for _, part in squared_distances(ours - centre, real - centre)]
    nearest, far = (np.concatenate(each) for each in zip(*distances, strict=True))
    rows = np.argsort(-far, kind="stable")[:IMAGES_PER_STRIP]
    return rows, nearest[rows]


def strip_of(members: ImageSet, spec: ImageSpec, unit: str | None, synthetic: bool = True) -> bytes:
    """All images of a set side by side, as PNG, whose heading says whether they are synthetic."""
    if spec.spatial_dims == 2:
        spec = replace(spec, size=(THUMBNAIL, THUMBNAIL), resize="pad")
    images = list(ImageSource(members.samples, spec, unit, {}).images(range(len(members))))
    return strip(images, synthetic=synthetic, oriented=spec.orientation is not None)


def synthetic_strips(synthetic: ImageSet, spec: ImageSpec, unit: str | None) -> list[tuple[str, bytes]]:
    """A heading and a row of synthetic images for each class or modality, the largest first; no real image is shown.

    Args:
        synthetic: the images.
        spec: the space in which they are read.
        unit: of files that do not state theirs.
    """
    names = np.array(classes(synthetic))
    order = numpy_generator("examples").permutation(len(names))
    strips = []
    for name in largest(names):
        rows = [int(row) for row in order if names[row] == name][:IMAGES_PER_STRIP]
        heading = f"{name} ({int((names == name).sum())} images)"
        strips.append((heading, strip_of(synthetic.rows(rows), spec, unit)))
    return strips


def largest(names: NDArray[np.str_]) -> list[str]:
    """The classes that have a strip, those of most images first."""
    return sorted(set(names.tolist()), key=lambda name: (-int((names == name).sum()), name))[:STRIPS]
