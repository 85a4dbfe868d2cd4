"""Options that say how a manifest is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medloom.data.manifest import Manifest, read_manifest


@dataclass(frozen=True, kw_only=True)
class ManifestOptions:
    """How a manifest is read.

    Attributes:
        images_are_patients: every image is of another patient (else a column patient_id names them).
        skip_bad: skip rows that cannot be used, and say how many.
        columns: the table's own names of standard columns (path, text, modality, patient_id, time, view, split, mask,
            prior, registered_prior, instruction), e.g. text=Report patient_id="Patient ID".
        unit: what the values of NIfTI, MetaImage and NRRD files are, which do not say so (HU or relative).
    """

    images_are_patients: bool = False
    skip_bad: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: str | None = None


def load_manifest(path: Path, options: ManifestOptions, need: tuple[str, ...] = ("path", "text")) -> Manifest:
    """Read a manifest as the options say; see `read_manifest`."""
    return read_manifest(
        path,
        named=options.columns,
        images_are_patients=options.images_are_patients,
        skip_bad=options.skip_bad,
        need=need,
    )
