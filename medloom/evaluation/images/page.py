"""The page of an evaluation of a set of images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medloom.core.seeds import numpy_generator
from medloom.core.spec import ImageSpec
from medloom.data.dataset import ImageSource
from medloom.evaluation.images.section import Found, Inputs
from medloom.evaluation.images.sections import SECTIONS
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.plots import draw, strip
from medloom.evaluation.report.report import Report, embedded, page
from medloom.metrics.matrices import squared_distances

STRIPS, IMAGES_PER_STRIP, THUMBNAIL = 12, 8, 128


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
    synthetic, strips = inputs.data.synthetic, []
    for name in inputs.used:
        real, ours = (inputs.features(name, members).values for members in (inputs.data.real, synthetic))
        centre = real.mean(axis=0)
        nearest = np.concatenate([part.min(axis=1) for _, part in squared_distances(ours - centre, real - centre)])
        rows = np.argsort(-nearest, kind="stable")[:IMAGES_PER_STRIP]
        heading = (
            f"The {len(rows)} least like any held-out real image, by {name} (the largest distances to the nearest)"
        )
        strips.append((heading, _strip(synthetic.rows(rows), inputs.data.spec, inputs.cache.unit)))
    return strips


def _strip(members: ImageSet, spec: ImageSpec, unit: str | None) -> bytes:
    if spec.spatial_dims == 2:
        spec = replace(spec, size=(THUMBNAIL, THUMBNAIL), resize="pad")
    images = list(ImageSource(members.samples, spec, unit, {}).images(range(len(members))))
    return strip(images, oriented=spec.orientation is not None)


def synthetic_strips(synthetic: ImageSet, spec: ImageSpec, unit: str | None) -> list[tuple[str, bytes]]:
    """A heading and a row of synthetic images for each class or modality, the largest first; no real image is shown.

    Args:
        synthetic: the images.
        spec: the space in which they are read.
        unit: of files that do not state theirs.
    """
    names = np.array([str(label or group) for label, group in zip(synthetic.labels, synthetic.groups, strict=True)])
    order = numpy_generator("examples").permutation(len(names))
    strips = []
    for name in sorted(set(names), key=lambda name: (-int((names == name).sum()), name))[:STRIPS]:
        rows = [int(row) for row in order if names[row] == name][:IMAGES_PER_STRIP]
        heading = f"{name} ({int((names == name).sum())} images)"
        strips.append((heading, _strip(synthetic.rows(rows), spec, unit)))
    return strips
