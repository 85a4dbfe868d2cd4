"""Differences as files: a GIF that moves between two images, or through a volume; NIfTI in the images' unit."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medloom.core.files import atomic_file
from medloom.core.image import Image
from medloom.core.sheets import Sheet, pictures
from medloom.core.tile_layout import title_lines
from medloom.core.tiles import COLOURS_NOTE, ColourScale, Pixels, TileColumn, colours, sides_note
from medloom.data.images import write_image
from medloom.generation.difference_maps import DifferenceRow

PROVENANCE = {"SYNTHETIC": "YES", "what": "difference of conditional means"}
# Milliseconds a frame: between two images slowly, through slices fast.
BETWEEN, THROUGH = 900, 120
# Of the 256 colours of a GIF, as many are of differences, and the others of the images.
MAP_COLOURS = 127


def write_difference_volume(path: Path, row: DifferenceRow, arm: str, reference: Image) -> None:
    """Write the difference of an arm to a NIfTI file, in the images' unit and geometry.

    Args:
        path: file to write.
        row: the images.
        arm: which.
        reference: an image of the same grid, for geometry and unit.
    """
    difference = row.difference(arm)[None]
    if difference.ndim == 3 and len(reference.size) == 3:
        # A slice in the file of a volume: `flat` turned it as it is seen.
        difference = difference.transpose(0, 2, 1)[:, ::-1, ::-1, None]
    write_image(path, Image(difference, reference.unit, spacing=reference.spacing, affine=reference.affine), PROVENANCE)


def write_difference_gif(
    path: Path,
    row: DifferenceRow,
    arm: str,
    scale: ColourScale,
    heading: str,
    titles: tuple[str, str, str],
    notes: Sequence[str] = (),
) -> None:
    """Write a GIF: in 2-D between factual and arm, next to their difference; in 3-D through the axial slices of all.

    Args:
        path: file to write.
        row: the images.
        arm: which.
        scale: the colours of the difference.
        heading: above all.
        titles: of the factual image, of the arm's and of the difference.
        notes: below all.
    """
    from PIL import Image as Picture

    sheets = _sheets(row, arm, scale, heading, titles, notes)
    palette = _palette(sheets, scale)
    frames = []
    for drawn in pictures(sheets):
        frames.append(Picture.fromarray(_nearest(drawn, palette), "P"))
        frames[-1].putpalette(palette.ravel().tolist())
    stream = io.BytesIO()
    frames[0].save(
        stream,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=BETWEEN if row.level is None else THROUGH,
        loop=0,
        comment=b"SYNTHETIC: YES; " + heading.encode("ascii", "replace"),
    )
    with atomic_file(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def _sheets(
    row: DifferenceRow,
    arm: str,
    scale: ColourScale,
    heading: str,
    titles: tuple[str, str, str],
    notes: Sequence[str],
) -> Sequence[Sheet]:
    """The frames, all of one size: what stands below the arm's image elsewhere stands among the notes here."""
    words = [row.label, "" if row.captions is None else row.captions[arm]]
    row = replace(row, captions=None)
    below = [", ".join(filter(None, words)).replace("\n", ", "), *notes, COLOURS_NOTE]

    def sheet(columns: Sequence[TileColumn], lines: int) -> Sheet:
        return Sheet(heading, columns, notes=[*below, *sides_note(columns[0].tiles)], title_lines=lines)

    if row.level is None:
        lines = max(map(title_lines, titles))
        change = TileColumn(titles[2], [row.map(arm, None, scale)], joined=True)
        return [
            sheet([TileColumn(title, [row.image(name, None)]), change], lines)
            for title, name in ((titles[0], None), (titles[1], arm))
        ]
    below.append("Axial slices from the feet to the head.")
    return [
        sheet(
            [
                TileColumn(titles[0], [row.image(None, level)]),
                TileColumn(titles[1], [row.image(arm, level)], joined=True),
                TileColumn(titles[2], [row.map(arm, level, scale)], joined=True),
            ],
            1,
        )
        for level in range(row.factual.shape[3])
    ]


def _palette(sheets: Sequence[Sheet], scale: ColourScale) -> Pixels:
    """The 256 colours `(256, 3)` that all frames have: those of the map at even steps, and those of the images."""
    from PIL import Image as Picture

    mapped = np.asarray(colours(scale.absolute)(np.linspace(0, 1, MAP_COLOURS), bytes=True))[:, :3]
    shown: list[Pixels] = [
        tile.pixels.reshape(1, -1, 3) for sheet in sheets for _, _, tile in sheet.layout.tiles if tile.scale is None
    ]
    found = Picture.fromarray(np.concatenate(shown, axis=1)).quantize(254 - MAP_COLOURS).getpalette() or []
    ends = np.array([[0, 0, 0], [255, 255, 255]])
    listed = np.concatenate([mapped, ends, np.reshape(found, (-1, 3))])
    return np.pad(listed, ((0, 256 - len(listed)), (0, 0))).astype(np.uint8)


def _nearest(drawn: Pixels, palette: Pixels) -> Pixels:
    """The index of the nearest colour of each pixel, `(H, W)`."""
    codes = (drawn.astype(np.int32) * (65536, 256, 1)).sum(axis=2)
    # Looked up among all 2^24 colours: sorting a million pixels takes longer.
    seen = np.zeros(1 << 24, dtype=bool)
    seen[codes] = True
    distinct = np.flatnonzero(seen)
    colours_there = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255], axis=1)
    found = np.empty(1 << 24, np.uint8)
    for start in range(0, len(distinct), 4096):
        part = slice(start, start + 4096)
        apart = colours_there[part, None] - palette.astype(np.int32)
        found[distinct[part]] = (apart**2).sum(axis=2).argmin(axis=1)
    chosen: Pixels = found[codes]
    return chosen
