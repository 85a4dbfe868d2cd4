"""The picture of README: the patient's own image, the generator's answers and the truth, each with its name."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.demo_picture import ARMS, demo_sheet
from medloom.core.errors import UserError
from medloom.core.files import write_json
from medloom.core.spec import HU, ImageSpec, Intensity
from medloom.core.tiles import SHOWN_QUANTILE
from medloom.data.images import read_image, write_image
from medloom.data.prompts.arms import read_changes
from medloom.data.prompts.support import EXTRAPOLATION_NOTE
from medloom.data.tables import read_table, row_ids, write_csv
from medloom.phantom.truth import Cohort
from medloom.recipes.commands import run_command


def test_each_arm_stands_next_to_the_truth_in_the_truth_s_colours(tmp_path: Path) -> None:
    given = {"patients": 16, "size": 32, "test": 0.9, "amplify": 4, "complete": True, "workers": 1}
    folder = run_command("data phantom", out=tmp_path / "cohort", **given)
    cohort, table = Cohort(folder), read_table(folder / "test.csv")
    changes = {arm: dict(read_changes("--set", arm)) for arm in ARMS}
    rows, true = [], []
    for row, source in enumerate(row_ids(folder / "test.csv", table.lines)):
        factual = cohort.twins(source, {}).factual.values
        # The generator answers half of the truth.
        halves = {arm: cohort.twins(source, do, ()).difference / 2 for arm, do in changes.items()}
        true.append(halves["age=85"] * 2)
        for arm, half in {"factual": np.zeros_like(factual), **halves}.items():
            path = f"{len(rows):06d}.dcm"
            write_image(tmp_path / "whatif" / path, cohort.spec.image(factual + half, HU), {})
            # All patients but the last three are an extrapolation in one arm.
            near = "" if arm != "age=85" else 9 if row >= len(table.rows) - 3 else 2
            rows.append([path, source, arm, 0, "CT", "", near])
    header = ["path", "source_id", "arm", "seed", "modality", "held", "support"]
    write_csv(tmp_path / "whatif" / "manifest.csv", header, rows)
    spec = ImageSpec((32, 32), 1, "pad", {"CT": Intensity("window", HU, -1024, 476)}).to_dict()
    arms = {arm: {"changes": do, "estimand": ""} for arm, do in changes.items()}
    write_json(tmp_path / "whatif" / "whatif.json", {"arms": arms, "spec": spec})

    sheet = demo_sheet(tmp_path / "whatif", cohort, ARMS, 2)
    names = ["virtual patient's own image", "generated, as recorded"]
    for arm in ARMS:
        names += [f"generated, {arm}", "difference", "true difference"]
    assert [column.title for column in sheet.columns] == names and list(sheet.labels) == ["patient 1", "patient 2"]
    assert sheet.notes[-1] == "In this cohort the effects of smoking are enlarged 4 times."
    assert all(tile.sides == ("R", "L") for column in sheet.columns for tile in column.tiles)
    scales = [sheet.columns[place].scales for place in (3, 6, 9)]
    assert scales == [sheet.columns[place].scales for place in (4, 7, 10)] and len({*scales}) == 3
    expected = np.quantile(np.abs(true), SHOWN_QUANTILE, method="inverted_cdf")
    assert scales[ARMS.index("age=85")][0].reach == pytest.approx(expected, rel=5e-3)
    for place in (3, 6, 9):
        for generated, truth in zip(sheet.columns[place].tiles, sheet.columns[place + 1].tiles, strict=True):
            np.testing.assert_allclose(generated.values, truth.values / 2, atol=1.0)
            assert np.abs(truth.values).max() > 5, "patients whom the arm changes"
    sources = list(dict.fromkeys(row[1] for row in rows))
    own = [read_image(cohort.image_of(source)).pixels for source in sources]
    for tile in sheet.columns[0].tiles:
        assert any(np.allclose((tile.values + 1) * 750 - 1024, image, atol=0.1) for image in own)
    shown = [tile.caption for column in sheet.columns for tile in column.tiles]
    assert not any(shown) and EXTRAPOLATION_NOTE not in sheet.notes, "patients with support come first"
    more = demo_sheet(tmp_path / "whatif", cohort, ARMS, 4)
    captions = {column.title: [tile.caption for tile in column.tiles] for column in more.columns[2::3]}
    assert captions["generated, age=85"] == ["", "", "", "extrapolation"] and EXTRAPOLATION_NOTE in more.notes
    assert not any(captions[f"generated, {ARMS[0]}"])
    kept = [row for row in rows if row[2] != ARMS[1]]
    write_csv(tmp_path / "whatif" / "manifest.csv", header, kept)
    with pytest.raises(UserError, match="no patient takes part in all of them"):
        demo_sheet(tmp_path / "whatif", cohort, ARMS, 1)
    with pytest.raises(UserError, match="unknown --arms"):
        demo_sheet(tmp_path / "whatif", cohort, ["age=86"], 1)
