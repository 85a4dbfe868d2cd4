"""Shifts inside the classes of a held mask: found where they are, none elsewhere, and intervals for all together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloom.cli.main import main
from medloom.core.errors import UserError
from medloom.core.files import write_json
from medloom.core.image import Image
from medloom.core.spec import GREY, HU, RELATIVE, ImageSpec, Intensity
from medloom.data.images import write_image
from medloom.data.tables import write_csv
from medloom.evaluation.effects.measure import Effects, measure_effects
from medloom.evaluation.effects.regions import NOISE, SHIFT, shift_table
from medloom.evaluation.report.metrics import Metric, Reference
from medloom.metrics.uncertainty import bootstrap_mean

PATIENTS, SEEDS = 12, 2
SHIFTS = {"a=1": 20.0, "b=1": 0.0}


def grey(values: np.ndarray) -> Image:
    return Image(values[None].astype(np.float32), GREY, 255.0)


def whatif(folder: Path, mask_size: int = 16, **described: Any) -> Path:
    """Images of 16 pixels in which the arm a=1 brightens label 1, the upper half, by some 20 levels in each patient."""
    folder.mkdir()
    labels = np.full((mask_size, mask_size), 2)
    labels[: mask_size // 2] = 1
    write_image(folder / "mask.png", grey(labels), {})
    rows: list[list[Any]] = []
    for patient in range(PATIENTS):
        rng = np.random.default_rng(patient)
        own = rng.normal(0, 4)
        for seed in range(SEEDS):
            factual = rng.normal(100, 5, (16, 16)) + 3 * seed
            images = {"factual": factual}
            for arm, shift in SHIFTS.items():
                changed = factual + rng.normal(0, 0.5, (16, 16))
                changed[:8] += shift + (own if shift else 0)
                images[arm] = changed
            for arm, values in images.items():
                path = f"{len(rows):04d}.png"
                write_image(folder / path, grey(np.rint(values)), {})
                rows.append([path, f"p{patient}", arm, seed, "mask.png"])
    write_csv(folder / "manifest.csv", ["path", "source_id", "arm", "seed", "mask"], rows)
    arms = {arm: {"changes": {arm[0]: 1}, "estimand": "in words"} for arm in SHIFTS}
    write_json(folder / "whatif.json", {"arms": arms, **described})
    return folder / "manifest.csv"


def shifts_of(effects: Effects) -> dict[str, Any]:
    return {metric.subset: metric for metric in effects.regions.metrics(effects.unit, 0) if metric.name == SHIFT}


def test_a_shift_is_found_in_its_region_and_nowhere_else(tmp_path: Path) -> None:
    effects = measure_effects(whatif(tmp_path / "w", classes={"1": "upper", "2": "lower"}), None, verbose=False)
    found = shifts_of(effects)
    assert set(found) == {f"{arm} | {region}" for arm in SHIFTS for region in ("upper", "lower")}
    assert found["a=1 | upper"].low < 20 < found["a=1 | upper"].high and found["a=1 | upper"].low > 10
    for control in ("a=1 | lower", "b=1 | upper", "b=1 | lower"):
        assert found[control].low < 0 < found[control].high
        assert found[control].high - found[control].low < 1
    assert found["a=1 | upper"].n == PATIENTS
    noise = [metric for metric in effects.regions.metrics(effects.unit, 0) if metric.name == NOISE]
    assert [metric.subset for metric in noise] == ["upper", "lower"]
    # Seeds are 3 levels apart.
    expected = 3 * np.std(np.arange(SEEDS), ddof=1)
    assert all(metric.value == pytest.approx(expected, rel=0.2) for metric in noise)


def test_intervals_hold_for_all_comparisons_together(tmp_path: Path) -> None:
    effects = measure_effects(whatif(tmp_path / "w"), None, verbose=False)
    metric = shifts_of(effects)["a=1 | label 1"]
    rows = [row for row in effects.regions.shifts if (row.arm, row.region) == ("a=1", "label 1")]
    single = bootstrap_mean(np.array([row.shift for row in rows]), [row.source for row in rows], 0)
    assert metric.high - metric.low > 1.2 * (single.high - single.low)
    assert "4 comparisons together" in metric.note


def test_a_mask_of_another_grid_is_brought_to_the_images(tmp_path: Path) -> None:
    spec = ImageSpec((16, 16), 1, "pad", {"CT": Intensity("window", GREY, 0, 255)})
    effects = measure_effects(whatif(tmp_path / "w", mask_size=48, spec=spec.to_dict()), None, verbose=False)
    assert shifts_of(effects)["a=1 | label 1"].low > 10
    with pytest.raises(UserError, match="a mask of .48, 48. for images of .16, 16."):
        measure_effects(whatif(tmp_path / "x", mask_size=48), None, verbose=False)


def test_volumes_are_in_the_unit_in_which_the_model_made_them(tmp_path: Path) -> None:
    """NIfTI does not say HU; the what-if's description of the model does."""
    rows: list[list[Any]] = []
    for arm, level in (("factual", -800), ("a=1", -780)):
        values = np.full((1, 4, 4, 4), level, np.float32)
        write_image(tmp_path / f"{arm}.nii.gz", Image(values, HU), {})
        rows.append([f"{arm}.nii.gz", "p", arm, 0, "CT"])
    write_csv(tmp_path / "manifest.csv", ["path", "source_id", "arm", "seed", "modality"], rows)
    spec = ImageSpec((4, 4, 4), 1, "pad", {"CT": Intensity("window", HU, -1000, 1000)})
    described = {"arms": {"a=1": {"changes": {"a": 1}, "estimand": "in words"}}}
    for known, unit in ((described, RELATIVE), ({**described, "spec": spec.to_dict()}, HU)):
        write_json(tmp_path / "whatif.json", known)
        effects = measure_effects(tmp_path / "manifest.csv", None, verbose=False)
        assert effects.unit == unit and effects.rows[0].estimated == pytest.approx(20)


def test_the_report_shows_the_regions(tmp_path: Path) -> None:
    manifest = whatif(tmp_path / "w", classes={"1": "upper", "2": "lower"})
    assert main(["evaluate", "whatif", str(manifest), "--out", str(tmp_path / "r")]) == 0
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "Shift inside each region" in page and page.count('<td class="of">a=1</td>') >= 1
    assert ">upper</th>" in page and "another seed" in page and "moved" in page


def test_the_table_of_shifts_has_arms_in_rows_and_regions_in_columns() -> None:
    def metric(name: str, subset: str) -> Metric:
        return Metric(name, subset, 1.0, 0.5, 1.5, 3, "patients", Reference("no change", 0.0))

    made = [
        metric(SHIFT, "a=1 | lung"),
        metric(SHIFT, "a=1 | bone"),
        metric(SHIFT, "b=1 | bone"),
        metric(NOISE, "bone"),
    ]
    regions, rows = shift_table(made)
    assert regions == ["lung", "bone"]
    assert rows == [("a=1", made[:2]), ("b=1", [None, made[2]]), ("another seed", [None, made[3]])]
    assert shift_table([]) == ([], [])
