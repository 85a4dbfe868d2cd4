"""grid.png: every modality, class and prompt is there, each tile says what it is, and arms stand in columns."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from medloom.core.tiles import LEAST
from medloom.core.types import Condition
from medloom.data.prompts.support import EXTRAPOLATION_NOTE
from medloom.generation.grids import SHOWN_IMAGES, SHOWN_LINES, arm_sheet, arm_titles, complete, grid_sheet
from medloom.generation.options import GenerationOptions
from medloom.generation.produce import LoadedModel, load_model
from medloom.generation.requests import Request, Source
from medloom.recipes.commands import run_command


@pytest.fixture
def model(make_manifest: Callable[..., Path], tmp_path: Path) -> LoadedModel:
    """A model of two modalities, and 90 files that it may have generated."""
    options = {**TINY, "loop.steps": 1, "loop.warmup": 0}
    run = run_command("train text2image", data=make_manifest(), out=tmp_path / "run", **options)
    out = tmp_path / "out"
    out.mkdir()
    for number in range(90):
        values = np.full((16, 16, 3), 20 + 2 * number, np.uint8)
        values[: number % 16] = 0
        Image.fromarray(values).save(out / f"{number:06d}.png")
    return load_model(GenerationOptions(model=run, out=out, device="cpu"))


def test_the_last_modality_of_a_sorted_table_is_shown_too(model: LoadedModel) -> None:
    prompts = [f"A disc, {('left', 'right', 'middle')[number % 3]}." for number in range(80)]
    conditions = [Condition(prompt, "Disc") for prompt in prompts]
    conditions += [Condition(f"A square, {number}.", "Square", "axial") for number in range(10)]
    requests = [
        Request(number, condition, number + 100, Source(str(number)), ("disc" if number < 80 else "square",))
        for number, condition in enumerate(conditions)
    ]
    sheet = grid_sheet(model, requests, ".png", ["label"])
    tiles = [tile for _, _, tile in sheet.layout.tiles]
    assert len(tiles) == SHOWN_IMAGES and sheet.notes[0] == f"{SHOWN_IMAGES} of 90 images."
    captions = [tile.caption for tile in tiles]
    assert sum("Square, axial" in caption for caption in captions) == 10, "all prompts of the second modality"
    assert {caption.split("\n")[1] for caption in captions if "Disc" in caption} == set(prompts[:3])
    assert captions[0] == "label: disc\nA disc, left.\nDisc, seed 100"
    assert min(min(tile.pixels.shape[:2]) for tile in tiles) >= LEAST and max(sheet.picture().shape[:2]) < 2000
    # The tile with that caption is the image of that seed.
    place = next(index for index, caption in enumerate(captions) if caption.endswith("seed 185"))
    assert tiles[place].pixels[-1, -1, 0] == 20 + 2 * 85


def test_arms_stand_in_columns_of_a_row_and_seed_each(model: LoadedModel) -> None:
    def asked(rows: Sequence[int]) -> list[Request]:
        requests = list[Request]()
        for row in rows:
            for seed in (2 * row, 2 * row + 1):
                for arm in ("factual", "smoking=never", "age=24"):
                    # Rows may be left out of an arm.
                    if not (row < 2 and arm == "age=24"):
                        condition = Condition("A disc.", "Square" if row == 9 else "Disc")
                        support = row if row > 0 and arm == "smoking=never" else None
                        number, source = len(requests), Source(f"s{row}")
                        requests.append(Request(number, condition, seed, source, arm=arm, support=support))
        return requests

    titles = arm_titles({"smoking=never": "", "age=24": " (association)"})
    assert list(titles.values()) == [
        "generated, as recorded",
        "generated, smoking=never",
        "generated, age=24 (association)",
    ]
    sheet = arm_sheet(model, asked(range(10)), ".png", titles)
    assert [column.title for column in sheet.columns] == list(titles.values())
    assert len(sheet.labels) == SHOWN_LINES and sheet.notes[0] == f"{SHOWN_LINES} of 20 rows and seeds."
    assert "row 10\nSquare\nseed 18" in sheet.labels, "the second modality"
    assert sheet.labels[0] == "row 3\nDisc\nseed 4", "rows that have all arms, where there are enough"
    assert not [label for label in sheet.labels if "s0" in label]
    few = arm_sheet(model, asked(range(4)), ".png", titles)
    assert few.labels[0] == "row 1\nDisc\nseed 0"
    assert [tile is None for tile in few.columns[2].tiles] == [True] * 2 + [False] * 4
    captions = [tile.caption for tile in few.columns[1].tiles if tile is not None]
    near = "extrapolation, training patients near: "
    assert [caption.removeprefix(near) for caption in dict.fromkeys(captions)] == ["", "1", "2"], "3 are enough"
    empty = "Empty: bounds of the template leave the row out of the arm."
    assert empty in few.notes and EXTRAPOLATION_NOTE in few.notes and empty not in sheet.notes


def test_lines_are_of_all_modalities_and_arms_where_there_is_room() -> None:
    young, old, all_of_them = (
        ["factual", "age=90"],
        ["factual", "pack_years=70"],
        ["factual", "age=90", "pack_years=70"],
    )
    half = [("CT", str(row), young) for row in range(20)] + [("CT", str(row), old) for row in range(20, 40)]
    assert complete(half, 6) == [0, 1, 2, 20, 21, 22], "no row has both arms"
    whole = [("CT", str(row), all_of_them if row % 5 == 4 else young) for row in range(40)]
    assert complete(whole, 6) == [4, 9, 14, 19, 24, 29]
    mixed = [("CT", str(row), all_of_them) for row in range(9)] + [("MR", "9", young)]
    assert complete(mixed, 3) == [0, 1, 9] and complete(mixed[:2], 6) == [0, 1] and complete([], 6) == []
    seeds = [("CT", str(line // 4), young) for line in range(12)]
    assert complete(seeds, 4) == [0, 1, 4, 8], "each row before a second seed"
