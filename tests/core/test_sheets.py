"""Pictures of tiles: nothing runs into anything else, tiles are exact, and colours say what their bars say."""

import io
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image as Picture

from medloom.core.image import Image
from medloom.core.plots import sides_of
from medloom.core.sheets import Sheet, pictures, tile_grid, varied
from medloom.core.spec import GREY, HU, Intensity
from medloom.core.tile_texts import DPI, MARK, caption_of, window_note, wrapped
from medloom.core.tiles import LEAST, MOST, SIDES_NOTE, AbsoluteQuantile, ColourScale, Tile, TileColumn, sides_note
from medloom.core.types import Condition

LONG = "diagnosis=connective_tissue_disease_with_interstitial_lung_disease,extent=severe,side=right"
NAMES = ["smoking=never", LONG, "age=85", "x" * 70, "smoking=former,pack_years=70", "coffee=daily", "a $b$ _c^d"]


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def sheet(names: list[str], size: int = 20, rows: int = 2) -> Sheet:
    columns = [TileColumn("generated, as recorded", [Tile(image(1, size, size), sides=("R", "L"))] * rows)]
    for number, name in enumerate(names, 1):
        scale = ColourScale(10.0**number, HU, f"99th percentile of |difference|, all {number} rows")
        columns.append(
            TileColumn(f"generated, {name}", [Tile(image(1, size, size), f"seed {number}", ("R", "L"))] * rows)
        )
        columns.append(TileColumn("difference", [Tile(image(size, size), scale=scale)] * rows, joined=True))
    labels = [f"row {row}\nCT, axial\n{LONG}" for row in range(rows)]
    return Sheet(
        f"{MARK}: {LONG}", columns, labels, ["Black to white: CT -1024 to 476 HU.", SIDES_NOTE, LONG], leading=1
    )


@pytest.mark.parametrize("names", [NAMES, NAMES[:1], NAMES[3:4]])
def test_texts_run_into_nothing(names: list[str]) -> None:
    drawn = sheet(names)
    figure, layout = drawn.figure(), drawn.layout
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert (figure.bbox.width, figure.bbox.height) == (layout.width, layout.height)
    texts = [text for text in figure.texts if text.get_text()]
    texts += [label for axes in figure.axes for label in axes.get_xticklabels()]
    boxes = {text: text.get_window_extent() for text in texts}
    for box in boxes.values():
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= layout.width and box.y1 <= layout.height
    for (one, first), (other, second) in combinations(boxes.items(), 2):
        apart = first.x1 <= second.x0 or second.x1 <= first.x0 or first.y1 <= second.y0 + 2 or second.y1 <= first.y0 + 2
        assert apart, (one.get_text(), other.get_text())
    # Titles, captions and the texts of bars stay above and below their own columns.
    spans = {(left, left + tile.pixels.shape[1]) for left, _, tile in layout.tiles}
    for text, box in boxes.items():
        if text.get_ha() == "center":
            middle = (box.x0 + box.x1) / 2
            (left, right), *_ = [span for span in spans if span[0] <= middle <= span[1]]
            assert box.x0 >= left - 3 and box.x1 <= right + 3, text.get_text()
    on_tile = {words.text for words in layout.words if words.on_tile}
    for left, top, tile in layout.tiles:
        height, width = tile.pixels.shape[:2]
        for text, box in boxes.items():
            inside = box.x1 > left and box.x0 < left + width and box.y1 > layout.height - top - height
            inside = inside and box.y0 < layout.height - top
            assert not inside or text.get_text() in on_tile, text.get_text()


def test_every_panel_is_named_and_columns_continue_below_with_the_first_again() -> None:
    drawn = sheet(NAMES[:6], rows=1)
    said = [words.text.replace("\n", " ") for words in drawn.layout.words]
    assert said[0].startswith("SYNTHETIC, research use only") and SIDES_NOTE in said
    assert said.count("difference") == 6 and said.count("generated, as recorded") == 2
    for name in NAMES[:6]:
        assert any(text.replace(" ", "") == f"generated,{name}" for text in said), name
    # The leading column and four pairs stand side by side; each map has the bar of its arm.
    tops = [top for _, top, _ in drawn.layout.tiles]
    assert [tops.count(top) for top in dict.fromkeys(tops)] == [9, 5]
    assert [scale.reach for *_, scale in drawn.layout.bars] == [10.0**number for number in range(1, 7)]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 16, 16), (192, 192)), ((1, 64, 64), (192, 192)), ((3, 100, 50), (200, 100)), ((1, 200, 20), (200, 20))],
)
def test_small_images_are_enlarged_by_whole_numbers(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    values = image(*shape)
    pixels = Tile(values).pixels
    assert pixels.shape == (*expected, 3) and max(pixels.shape) >= LEAST
    times = expected[0] // shape[1]
    levels = np.clip(np.rint((values + 1) * 127.5), 0, 255)
    np.testing.assert_array_equal(pixels[::times, ::times, 0], levels[0])
    np.testing.assert_array_equal(pixels[times - 1 :: times, times - 1 :: times, 0], levels[0])


def test_large_images_are_reduced_by_means() -> None:
    values = image(1, 800, 700)
    pixels = Tile(values).pixels
    assert pixels.shape[:2] == (266, 233) and max(pixels.shape) <= MOST
    expected = np.rint((values[0, :3, :3].mean() + 1) * 127.5)
    assert abs(int(pixels[0, 0, 0]) - expected) <= 1


def test_tiles_stand_in_the_picture_pixel_by_pixel() -> None:
    drawn = sheet(NAMES[:2])
    picture = drawn.picture()
    for left, top, tile in drawn.layout.tiles:
        height, width = tile.pixels.shape[:2]
        shown = picture[top : top + height, left : left + width]
        # Below the letters of the sides.
        np.testing.assert_array_equal(shown[30:], tile.pixels[30:])


def test_bars_have_all_colours_with_white_at_zero_and_the_unit() -> None:
    drawn = sheet(NAMES[:1], rows=1)
    picture, ((left, top, across, scale),) = drawn.picture(), drawn.layout.bars
    bar = picture[top + 5, left + 2 : left + across - 2].astype(int)
    assert len(np.unique(bar, axis=0)) > 120, "continuous"
    assert bar[len(bar) // 2].min() > 250 and bar[0][2] > bar[0][0] + 30 and bar[-1][0] > bar[-1][2] + 30
    np.testing.assert_array_equal(scale.pixels(np.zeros((1, 1), np.float32)), [[[255, 255, 255]]])
    # The map has the bar's colours: as far to the right as the value is.
    value = np.full((1, 1), scale.reach / 2, np.float32)
    assert np.abs(bar[round(len(bar) * 0.75)] - scale.pixels(value)[0, 0].astype(int)).max() < 12
    assert list(scale.ticks.values()) == ["-10", "0 HU", "+10"]
    sizes = ColourScale(8.0, HU, absolute=True)
    assert list(sizes.ticks.values()) == ["0", "4 HU", "8"]
    np.testing.assert_array_equal(sizes.pixels(-value), sizes.pixels(value))


def test_the_file_has_all_colours_and_says_that_it_is_synthetic() -> None:
    drawn = sheet(NAMES[:1])
    file = Picture.open(io.BytesIO(drawn.png(note="after 4 steps")))
    assert file.mode == "RGB" and file.info["SYNTHETIC"] == "YES" and file.info["note"] == "after 4 steps"
    np.testing.assert_array_equal(np.asarray(file), drawn.picture())


def test_empty_places_and_frames_that_share_their_texts() -> None:
    tiles = [Tile(image(1, 16, 16), "one"), Tile(-image(1, 16, 16), "two"), Tile(image(1, 16, 16), "three")]
    grid = tile_grid("h", tiles, columns=2)
    assert [tile is None for column in grid.columns for tile in column.tiles] == [False, False, False, True]
    one, other = (Sheet("h", [TileColumn("a", [Tile(values)])]) for values in (image(1, 16, 16), -image(1, 16, 16)))
    first, second = pictures([one, other])
    assert (first != second).any() and np.array_equal(first[:40], second[:40])


def test_lines_are_broken_where_it_does_not_hurt() -> None:
    assert wrapped("a=1,b=2", 1000, 13) == ["a=1,b=2"]
    assert wrapped("smoking=former,pack_years=70", 130, 13) == ["smoking=former,", "pack_years=70"]
    assert all(wrapped("x" * 90, 100, 13)) and "".join(wrapped("x" * 90, 100, 13)) == "x" * 90
    assert wrapped("one\ntwo", 1000, 13) == ["one", "two"]


def test_letters_that_the_font_lacks_do_not_stop_a_picture(recwarn: pytest.WarningsRecorder) -> None:
    Sheet("肺 pneumonia", [TileColumn("左", [Tile(image(1, 8, 8))])]).picture()
    assert not [str(one.message) for one in recwarn if "Glyph" in str(one.message)]


def test_quantiles_of_arrays_that_come_one_after_another() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, scale, (4, 50)) for scale in (0.02, 3.0, 400.0)]
    found = AbsoluteQuantile()
    for part in parts:
        found.add(part.astype(np.float32))
    for quantile in (0.5, 0.9, 0.99):
        expected = np.quantile(np.abs(np.concatenate(parts)), quantile, method="inverted_cdf")
        assert found.value(quantile) == pytest.approx(expected, rel=3e-3)
    nothing, little = AbsoluteQuantile(), AbsoluteQuantile()
    nothing.add(np.zeros(10))
    little.add(np.array([0.0] * 999 + [7.0]))
    assert nothing.value(0.99) == 0.0 and little.value(0.99) == 7.0, "the largest where nearly all are 0"


def test_few_tiles_show_every_modality_class_and_prompt() -> None:
    keys = [("CT", "a", f"p{n % 7}") for n in range(60)] + [("MR", "b", "q")] * 30 + [("CT", "b", "r"), ("X", "", "")]
    chosen = [keys[index] for index in varied(keys, 12)]
    assert {key[0] for key in chosen} == {"CT", "MR", "X"} and {key[:2] for key in chosen} >= {("CT", "b"), ("CT", "a")}
    assert len({key for key in chosen if key[1] == "a"}) == sum(key[1] == "a" for key in chosen), "no prompt twice"
    assert chosen == sorted(chosen, key=lambda key: ["CT", "MR", "X"].index(key[0])), "equal ones stand together"
    assert varied(keys, 1000) != list(range(len(keys))) and sorted(varied(keys, 1000)) == list(range(len(keys)))
    assert varied([], 3) == []


AXIAL = np.array([[0, -1.0, 0, 0], [-1.0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
SAGITTAL = np.array([[0, 0, 1.0, 0], [0, -1.0, 0, 0], [-1.0, 0, 0, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Image(image(1, 4, 4), HU, affine=AXIAL), ("R", "L")),
        (Image(image(1, 4, 4), HU, affine=AXIAL * [1, -1, 1, 1]), ("L", "R")),
        (Image(image(1, 4, 4), HU, affine=SAGITTAL), None),
        (Image(image(1, 4, 4), HU, spacing=(1.0, 1.0)), None),
        (Image(image(1, 4, 4), GREY, 255.0, directions=("L", "F")), ("R", "L")),
        (Image(image(1, 4, 4), GREY, 255.0, directions=("R", "F")), ("L", "R")),
        (Image(image(1, 4, 4), GREY, 255.0, directions=("P", "F")), None),
        (Image(image(1, 4, 5, 6), HU, affine=np.eye(4)), ("R", "L")),
        (Image(image(1, 4, 5, 1), HU, affine=np.eye(4)), None),
    ],
)
def test_sides_are_marked_where_they_are_known(given: Image, expected: tuple[str, str] | None) -> None:
    assert sides_of(given) == expected
    tile = Tile(image(1, 4, 4), sides=expected)
    assert sides_note([tile]) == ([] if expected is None else [SIDES_NOTE])
    drawn = [words.text for words in Sheet("h", [TileColumn("t", [tile])]).layout.words if words.on_tile]
    assert drawn == list(expected or ())


def test_captions_and_windows() -> None:
    table = {"age": 40.0, "smoking": None, "sex": "male"}
    words = caption_of(Condition("word " * 40, "CT", "axial", table=table), "seed 3").split("\n")
    assert len(words[0]) <= 80 and words[0].endswith("...") and words[1:] == ["age=40, sex=male", "CT, axial, seed 3"]
    intensities = {"CT": Intensity("window", HU, -1024, 476), "MR": Intensity("percentile", "relative", 0.5, 99.5)}
    assert window_note(intensities, ["CT", "MR", "CT"]) == (
        "Black to white: CT -1024 to 476 HU; MR the 0.5th to the 99.5th percentile of each image."
    )
    assert 2 ** round(np.log2(DPI)) == DPI, "pixels stay whole"
