"""Options that say how a manifest is read."""

from dataclasses import dataclass
from pathlib import Path

from medloom.data.columns import ALIASES
from medloom.data.manifest import Manifest, read_manifest


@dataclass(frozen=True, kw_only=True)
class ManifestOptions:
    """How a manifest is read.

    Attributes:
        images_are_patients: every image is of another patient (else a column patient_id names them).
        skip_bad: go on without rows that cannot be used; says how many.
        path_column: column of the images' paths, where it has another name.
        text_column: column of the texts, where it has another name.
        modality_column: column of the modalities, where it has another name.
        patient_id_column: column of the patients, where it has another name.
        view_column: column of the views, where it has another name.
        mask_column: column of the masks' paths, where it has another name.
        split_column: column of the splits, where it has another name.
        time_column: column of the dates, or days, where it has another name.
        prior_column: column of the earlier images' paths, where it has another name.
        instruction_column: column of the instructions, where it has another name.
        unit: what the values of NIfTI, MetaImage and NRRD files are, which do not say so (HU or relative).
    """

    images_are_patients: bool = False
    skip_bad: bool = False
    path_column: str | None = None
    text_column: str | None = None
    modality_column: str | None = None
    patient_id_column: str | None = None
    view_column: str | None = None
    mask_column: str | None = None
    split_column: str | None = None
    time_column: str | None = None
    prior_column: str | None = None
    instruction_column: str | None = None
    unit: str | None = None


def named_columns(options: ManifestOptions) -> dict[str, str]:
    """Standard column -> the name that the user gave for it."""
    given = {standard: getattr(options, f"{standard}_column", None) for standard in ALIASES}
    return {standard: name for standard, name in given.items() if name}


def load_manifest(path: Path, options: ManifestOptions, need: tuple[str, ...] = ("path", "text")) -> Manifest:
    """Read a manifest as the options say; see `read_manifest`."""
    return read_manifest(
        path,
        named=named_columns(options),
        images_are_patients=options.images_are_patients,
        skip_bad=options.skip_bad,
        need=need,
    )
