"""The images that are rated: rows of manifests as items, with neutral names."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.cells import spelled
from medloom.core.errors import UserError
from medloom.core.files import hash_content, hash_json
from medloom.core.frames import file_of
from medloom.core.progress import say
from medloom.data.columns import PATH_COLUMNS
from medloom.data.images import read_provenance
from medloom.data.manifest import Manifest, ManifestOptions, read_manifest
from medloom.data.manifest_rows import records_of
from medloom.data.units import unit_for
from medloom.feedback.ratings.entries import REAL, SYNTHETIC, Item

if TYPE_CHECKING:
    from collections.abc import Sequence

# Columns of a row that an item has itself, or that say nothing of it.
OWN = ("path", "text", "modality", "line")
LIST_COLUMNS = ("rater", "session", "place", "item")


def read_images(path: Path, conditions: Path | None = None) -> Manifest:
    """A manifest of images to rate; a table in which an image has several rows may be one.

    Args:
        path: of the manifest.
        conditions: table that the images were generated from, which has their texts.

    Raises:
        UserError: it cannot be used.
    """
    manifest = read_manifest(path, skip_bad=True, need=("path",), need_patients=False, repeated=True)
    for note in manifest.notes:
        say(note)
    if conditions is not None:
        # Imported here, since it imports torch, and a studio of ratings starts without.
        from medloom.evaluation.images.source_rows import with_conditions

        return with_conditions(manifest, conditions, ManifestOptions(skip_bad=True))
    return manifest


def is_reading_list(manifest: Manifest) -> bool:
    """Whether a manifest says who is shown what at which place."""
    return set(LIST_COLUMNS) <= set(manifest.frame.columns)


def items_of(manifest: Manifest, source: str | None, left_out: "Sequence[str]" = ()) -> list[Item]:
    """The rows of a manifest as items; rows with one image and one text are one.

    Args:
        manifest: the images.
        source: synthetic or real, where the user has said it; None asks the rows and the files.
        left_out: columns that say nothing of an image, as the place in a reading list.

    Raises:
        UserError: a file that is gone, or one name for two images.
    """
    found: dict[str, Item] = {}
    for record in records_of(manifest.frame):
        item = _item(manifest, record, source, left_out)
        if (known := found.setdefault(item.name, item)).content != item.content or known.text != item.text:
            raise UserError(
                f"{manifest.source}, line {record['line']}: the name {item.name!r} stands for two images; give each"
                " image one name in the column 'item'."
            )
    return list(found.values())


def _item(manifest: Manifest, record: Mapping[str, Any], source: str | None, left_out: "Sequence[str]") -> Item:
    path, text = Path(record["path"]), str(record.get("text") or "")
    content = hash_content(path)
    cells = {
        name: spelled(cell) if not isinstance(cell, str) else cell
        for name, cell in record.items()
        if name not in (*OWN, *left_out) and cell is not None and cell == cell
    }
    if "patient_id" not in manifest.columns:
        cells.pop("patient_id", None)
    return Item(
        name=spelled(record["item"]) if record.get("item") is not None else hash_json([content, text])[:12],
        path=path,
        content=content,
        source=source or source_of(path, record),
        text=text,
        modality=record["modality"],
        unit=unit_for(manifest.units, record["modality"], path),
        cells=cells,
    )


def source_of(path: Path, record: Mapping[str, Any]) -> str:
    """Whether an image is synthetic or real, as its row or its file says; empty where neither does."""
    if record.get("source") in (SYNTHETIC, REAL):
        return str(record["source"])
    # Formats that cannot state it are those of other programs.
    with suppress(UserError):
        if read_provenance(file_of(path)).get("SYNTHETIC") == "YES":
            return SYNTHETIC
    return ""


def paths_of(item: Item) -> dict[str, str]:
    """The cells of an item that are paths, as masks and prior images."""
    return {name: cell for name, cell in item.cells.items() if name in PATH_COLUMNS}
