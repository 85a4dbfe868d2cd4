"""What a table says of the images that were generated from it, where their manifest leaves it out."""

from dataclasses import replace
from pathlib import Path

from medloom.core.errors import UserError
from medloom.data.manifest import Manifest, ManifestOptions, read_manifest
from medloom.generation.requests import origins


def with_conditions(synthetic: Manifest, table: Path, options: ManifestOptions) -> Manifest:
    """A manifest of generated images with the texts of their rows, and the columns of the table that it lacks.

    Args:
        synthetic: as `medloom generate --data` writes it; its column source_id says which row an image is of.
        table: that the images were generated from.
        options: how the table is read.

    Raises:
        UserError: no image was generated from the table as it is.
    """
    source = read_manifest(
        table,
        named=options.columns,
        images_are_patients=options.images_are_patients,
        skip_bad=options.skip_bad,
        need=(),
        need_patients=False,
    )
    samples = source.samples()
    found = {origin.source: sample.condition for origin, sample in zip(origins(table, samples), samples, strict=True)}
    if "source_id" not in synthetic.frame or not set(synthetic.frame["source_id"]) & set(found):
        raise UserError(
            f"--conditions {table}: no image of {synthetic.source} was generated from this table as it is; give that of"
            " `medloom generate --data`, unchanged."
        )
    frame = synthetic.frame.copy()
    conditions = [found.get(str(name)) for name in frame["source_id"]]
    frame["text"] = [None if condition is None else condition.text for condition in conditions]
    for name in source.clinical_columns:
        if name not in frame:
            frame[name] = [None if condition is None else condition.table.get(name) for condition in conditions]
    return replace(synthetic, frame=frame)


def require_texts(synthetic: Manifest) -> None:
    """Refuse a manifest without texts where they are needed.

    Raises:
        UserError: says both ways to get them.
    """
    if "text" not in synthetic.frame or not any(isinstance(cell, str) and cell for cell in synthetic.frame["text"]):
        raise UserError(
            f"{synthetic.source} has no texts: those of a table are left out of manifests. Name the table with"
            " --conditions, or generate the images with --with-text."
        )
