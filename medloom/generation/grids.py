"""grid.png: some of the generated images with what they were asked to show."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from medloom.core.cells import spelled
from medloom.core.plots import flat
from medloom.core.sheets import Sheet, tile_grid, varied
from medloom.core.tile_texts import MARK, caption_of, window_note
from medloom.core.tiles import Tile, TileColumn, sides_note
from medloom.data.prompts.support import EXTRAPOLATION_NOTE, is_extrapolation
from medloom.generation.geometry import sides
from medloom.generation.options import LABEL_COLUMNS, SAMPLED_FOR
from medloom.generation.produce import LoadedModel, previews
from medloom.generation.requests import Request
from medloom.generators.generated_images import FACTUAL

GRID = "grid.png"
SHOWN_IMAGES, SHOWN_LINES = 48, 6
AS_RECORDED = "generated, as recorded"


def write_grid(model: LoadedModel, requests: Sequence[Request], suffix: str, columns: Sequence[str] = ()) -> None:
    """Write grid.png; see `grid_sheet`."""
    grid_sheet(model, requests, suffix, columns).save(model.options.out / GRID)


def grid_sheet(model: LoadedModel, requests: Sequence[Request], suffix: str, columns: Sequence[str] = ()) -> Sheet:
    """Images of every modality, class and prompt, as many as there is room for.

    Args:
        model: that generated them.
        requests: all images.
        suffix: ending of their files.
        columns: names of the requests' cells, among which classes are.
    """

    def key(request: Request) -> tuple[str, str, str]:
        classes = " ".join(_classes(request, columns).values())
        return modality_of(model, request), classes, caption_of(request.condition)

    chosen = [requests[index] for index in varied([key(request) for request in requests], SHOWN_IMAGES)]
    tiles = []
    for request, image in zip(chosen, previews(model, chosen, suffix), strict=True):
        named = [f"{name}: {cell}" for name, cell in _classes(request, columns).items() if cell]
        caption = "\n".join([*named, caption_of(request.shown(model.options.with_text), f"seed {request.seed}")])
        tiles.append(Tile(flat(image), caption, sides(model.generator.reader, request)))
    notes = [counted(len(chosen), len(requests), "images"), *_slices(model), windows(model, chosen), *sides_note(tiles)]
    return tile_grid(f"{MARK}: generated images", tiles, notes)


def write_arm_grid(model: LoadedModel, requests: Sequence[Request], suffix: str, titles: Mapping[str, str]) -> None:
    """Write grid.png of a what-if; see `arm_sheet`."""
    arm_sheet(model, requests, suffix, titles).save(model.options.out / GRID)


def arm_sheet(model: LoadedModel, requests: Sequence[Request], suffix: str, titles: Mapping[str, str]) -> Sheet:
    """A line per row and seed, as many as there is room for, and a column per arm.

    Args:
        model: that generated the images.
        requests: all images.
        suffix: ending of their files.
        titles: arm, the factual one first -> its column's title.
    """
    lines: dict[tuple[str, int], dict[str, Request]] = {}
    for request in requests:
        lines.setdefault((request.origin.source, request.seed), {})[request.arm] = request
    numbers = {source: number for number, source in enumerate(dict.fromkeys(source for source, _ in lines), 1)}
    most = max(1, min(SHOWN_LINES, 2 * SHOWN_IMAGES // len(titles)))
    known = [(modality_of(model, next(iter(own.values()))), line[0], list(own)) for line, own in lines.items()]
    shown = [list(lines)[index] for index in complete(known, most)]
    columns = []
    for arm, title in titles.items():
        there = [lines[line][arm] for line in shown if arm in lines[line]]
        images = dict(zip((r.number for r in there), previews(model, there, suffix), strict=True))
        tiles: list[Tile | None] = [None] * len(shown)
        for place, line in enumerate(shown):
            if arm in lines[line]:
                own = lines[line][arm]
                tiles[place] = Tile(flat(images[own.number]), caution(own), sides(model.generator.reader, own))
        columns.append(TileColumn(title, tiles))
    firsts = [next(iter(lines[line].values())) for line in shown]
    labels = [f"{row_label(model, first, numbers[first.origin.source])}\nseed {first.seed}" for first in firsts]
    notes = [counted(len(shown), len(lines), "rows and seeds"), *arm_notes([lines[line] for line in shown], titles)]
    notes += [*_slices(model), windows(model, firsts)]
    notes += sides_note(tile for column in columns for tile in column.tiles)
    return Sheet(f"{MARK}: generated images by arm", columns, labels, notes, leading=1)


def arm_titles(arms: Mapping[str, str]) -> dict[str, str]:
    """Titles of the columns of arms.

    Args:
        arms: name of each changed arm -> what is added to its title, or "".
    """
    return {FACTUAL: AS_RECORDED, **{name: f"generated, {name}{note}" for name, note in arms.items()}}


def complete(lines: Sequence[tuple[str, str, Collection[str]]], most: int) -> list[int]:
    """Indices of up to `most` lines of all modalities and of many rows, with each arm as often as can be.

    Args:
        lines: the modality, the row and the arms of each.
        most: how many.
    """
    modalities, rows, arms, chosen = Counter[str](), Counter[str](), Counter[str](), list[int]()
    while len(chosen) < min(most, len(lines)):
        rest = [index for index in range(len(lines)) if index not in chosen]

        def turn(index: int) -> tuple[int, int, float]:
            modality, row, own = lines[index]
            return modalities[modality], rows[row], -sum(1 / (1 + arms[arm]) for arm in own)

        modality, row, own = lines[best := min(rest, key=turn)]
        chosen.append(best)
        modalities[modality] += 1
        rows[row] += 1
        arms.update(own)
    order = list(dict.fromkeys(modality for modality, _, _ in lines))
    return sorted(chosen, key=lambda index: (order.index(lines[index][0]), index))


def caution(request: Request) -> str:
    """What stands below the image of a row that is an extrapolation in its arm."""
    return f"extrapolation, training patients near: {request.support}" if is_extrapolation(request.support) else ""


def arm_notes(shown: Sequence[Mapping[str, Request]], arms: Collection[str]) -> list[str]:
    """What empty places and extrapolations are, where there are any.

    Args:
        shown: of each line the request of each arm that it has.
        arms: that have columns.
    """
    empty = any(arm not in own for own in shown for arm in arms)
    beyond = any(is_extrapolation(request.support) for own in shown for request in own.values())
    return ["Empty: bounds of the template leave the row out of the arm."] * empty + [EXTRAPOLATION_NOTE] * beyond


def row_label(model: LoadedModel, request: Request, number: int) -> str:
    """What stands next to a row's images; nothing that says whose they are."""
    known = [modality_of(model, request), request.condition.view]
    return f"row {number}\n{', '.join(words for words in known if words)}"


def windows(model: LoadedModel, requests: Sequence[Request]) -> str:
    """What is black and what is white in the images."""
    return window_note(model.generator.spec.intensity, [modality_of(model, request) for request in requests])


def _classes(request: Request, columns: Sequence[str]) -> dict[str, str]:
    """The class that an image was sampled for, and its labels, by name."""
    cells = zip(columns, request.cells, strict=False)
    return {name.replace("_", " "): spelled(cell) for name, cell in cells if name in (SAMPLED_FOR, *LABEL_COLUMNS)}


def _slices(model: LoadedModel) -> list[str]:
    return ["Of each volume the middle axial slice."] if model.generator.spec.spatial_dims == 3 else []


def modality_of(model: LoadedModel, request: Request) -> str:
    """The modality of a request's image."""
    return model.generator.reader.modality(request.condition)


def counted(shown: int, total: int, what: str) -> str:
    """How many are shown."""
    if shown < total:
        return f"{shown} of {total} {what}."
    single = what.replace("s ", " ").removesuffix("s")
    return f"All {total} {what}." if total > 1 else f"The only {single}."
