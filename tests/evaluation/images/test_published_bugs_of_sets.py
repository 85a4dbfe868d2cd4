"""Two mistakes of published comparisons of sets, put back into a copy of what medloom does, are caught here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import drawn_set
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.data.images import read_image
from medloom.data.manifest import read_manifest
from medloom.evaluation.images import fidelity
from medloom.evaluation.images.comparison import compare, readable_only
from medloom.evaluation.images.features import FeatureSet
from medloom.evaluation.report.metrics import Metric, Reference


def normal(seed: int) -> FeatureSet:
    values = np.random.default_rng(seed).standard_normal((120, 8)).astype(np.float32)
    return FeatureSet(values, np.array([f"{seed}-{row}" for row in range(120)]), np.full(120, "A"))


@pytest.mark.slow
def test_no_real_against_real_reference() -> None:
    """Published distances stood alone, as if equal sets had none: every generator looked worse than its data."""

    def without_reference(metric: Metric) -> Metric:
        return replace(metric, reference=Reference("the real images", 0.0), beyond=None)

    metrics, _ = fidelity.fidelity_metrics("x", normal(0), normal(1), 0, verbose=False)
    ours = next(metric for metric in metrics if metric.name == fidelity.FD)
    assert ours.reference.what == fidelity.REAL_TO_REAL and ours.reference.n == ours.n
    assert not ours.reading.endswith("worse")
    assert without_reference(ours).reading.endswith("worse")


def test_blank_images_counted_for_unreadable_ones(tmp_path: Path) -> None:
    """A published loader gave a blank image where a file could not be read, and the metrics counted it."""

    def blank_for_unreadable(path: Path) -> NDArray[np.float32]:
        try:
            return read_image(path).pixels
        except UserError:
            return np.zeros((1, 16, 16), np.float32)

    real = read_manifest(drawn_set(tmp_path / "real", 60, 1), need=("path",), need_patients=False)
    made = drawn_set(tmp_path / "synthetic", 40, 2, patients=False)
    synthetic = read_manifest(made, need=("path",), need_patients=False)
    data = compare(real, synthetic, None, label="none", image_size=(16,), resize="pad", seed=0)
    paths = [sample.path for sample in data.synthetic.samples]
    for path in paths[:4]:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=paths[0].name):
        read_image(paths[0])
    theirs = [blank_for_unreadable(path) for path in paths]
    assert sum(image.std() == 0 for image in theirs) == 4
    kept = readable_only(data)
    ours = [read_image(sample.path).pixels for sample in kept.synthetic.samples]
    assert len(ours) == 36 and all(image.std() > 0 for image in ours)
    assert any(note.startswith("4 synthetic images cannot be read") for note in kept.notes)
