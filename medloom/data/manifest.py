"""The manifest: a table of an image set, one image per row, with paths relative to its own folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.cells import plain_number
from medloom.core.errors import UserError
from medloom.core.files import content_stamp, hash_content, hash_json, sampled_content
from medloom.core.frames import ALL, as_path, file_of
from medloom.core.types import Condition, Sample
from medloom.data.columns import ALIASES, PATH_COLUMNS, require, standard_names
from medloom.data.identifiers import identifier_notes
from medloom.data.manifest_rows import frame_of_table, is_frame, records_of, row_problems, units_of
from medloom.data.paths import absolute, portable
from medloom.data.tables import Problem, read_table, write_csv

if TYPE_CHECKING:
    import pandas as pd

LISTED_PROBLEMS = 20


@dataclass(frozen=True)
class Manifest:
    """A checked table of images.

    Attributes:
        frame: one image per row. Standard columns (`path`, `text`, `modality`, ...) have their standard names, path
            columns are absolute; all other columns are clinical columns with their own names and types. The index is
            the row number, `line` the line in the file.
        source: the file.
        columns: standard name -> the file's own name, for the columns in the file.
        problems: unusable rows.
        patients_are_images: each image counts as a patient of its own.
        notes: remarks on the rows for the user.
        units: of values in files that do not state theirs, by modality, as the column `pixel_unit` says; see `units`.

    Examples:
        >>> import medloom
        >>> manifest = medloom.read_manifest("train.csv")
        >>> manifest.clinical_columns, manifest.frame["age"].mean().item()
        (['age'], 41.5)
        >>> len(manifest.select(manifest.frame["age"] > 42))
        1
    """

    frame: "pd.DataFrame"
    source: Path
    columns: Mapping[str, str]
    problems: tuple[Problem, ...] = ()
    patients_are_images: bool = False
    notes: tuple[str, ...] = field(default=())
    units: str | None = None

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def clinical_columns(self) -> list[str]:
        """Names of the non-standard columns."""
        return [name for name in self.frame.columns if name not in ALIASES and name != "line"]

    @property
    def modalities(self) -> list[str]:
        """The modalities that occur, sorted."""
        return sorted(set(self.frame["modality"]))

    def samples(self) -> list[Sample]:
        """The rows as Samples, in order."""
        clinical = self.clinical_columns
        return [
            Sample(
                path=Path(record.get("path") or ""),
                condition=Condition(
                    text=record.get("instruction") or record.get("text"),
                    modality=record["modality"],
                    view=record.get("view"),
                    prior=_path_of(record, "prior"),
                    mask=_path_of(record, "mask"),
                    table={name: _cell(record[name]) for name in clinical},
                ),
                patient=str(record["patient_id"]),
                row=position,
                line=int(record["line"]),
                registered_prior=_path_of(record, "registered_prior"),
            )
            for position, record in enumerate(records_of(self.frame))
        ]

    def select(self, keep: Iterable[bool]) -> "Manifest":
        """The manifest with only the rows for which `keep` is true."""
        # By position: pandas takes an empty list of booleans for a list of columns.
        rows = [row for row, wanted in enumerate(keep) if wanted]
        return replace(self, frame=self.frame.iloc[rows].reset_index(drop=True))

    def fingerprint(self, columns: Sequence[str] = ()) -> str:
        """A hash of the rows: the files' contents (see `sampled_content`), texts, modalities and so on.

        It does not depend on where the files lie, so that data may be moved.

        Args:
            columns: further columns that count.
        """
        usual = ("text", "instruction", "modality", "view", "patient_id", *PATH_COLUMNS)
        names = [name for name in dict.fromkeys((*usual, *columns)) if name in self.frame]

        def content(name: str, cell: object) -> str:
            named = name in PATH_COLUMNS and isinstance(cell, str) and bool(cell)
            return sampled_content(Path(str(cell))) if named else str(cell)

        return hash_json([[name, [content(name, cell) for cell in self.frame[name]]] for name in names])

    def stamp(self) -> str:
        """A hash of the files' times; caches are keyed by it and the fingerprint."""
        files = [path for name in PATH_COLUMNS if name in self.frame for path in self.frame[name] if path]
        return hash_json([content_stamp(Path(path))[1] for path in files])

    def write(self, path: Path) -> None:
        """Write the rows to another CSV; paths become relative to its folder where they can."""
        frame = self.frame.drop(columns="line")
        folder = absolute(path).parent
        for name in PATH_COLUMNS:
            if name in frame:
                frame[name] = [portable(cell, folder) for cell in frame[name]]
        cells = frame.astype(object).where(frame.notna(), None)
        write_csv(path, list(cells.columns), [[plain_number(cell) for cell in row] for row in cells.values.tolist()])


def read_manifest(
    path: Path | str,
    *,
    named: Mapping[str, str] | None = None,
    images_are_patients: bool = False,
    skip_bad: bool = False,
    need: Sequence[str] = ("path", "text"),
    need_patients: bool = True,
    image_frame: int | str | None = None,
    repeated: bool = False,
) -> Manifest:
    """Read a manifest whose rows are all usable.

    Args:
        path: CSV, TSV, Parquet, JSONL or XLSX.
        named: standard column -> column, where the file has a name of its own.
        images_are_patients: each image is a patient of its own; files with the same content are one patient.
        skip_bad: continue without unusable rows; `notes` gives their number.
        need: required standard columns; without `path`, the rows are conditions, whose images may be missing.
        need_patients: refuse a table without patients.
        image_frame: of files with several frames, where no column `frame` names it: a number from 0, or `all`.
        repeated: whether an image may have several rows, as in a table of ratings.

    Raises:
        UserError: no path, or an unusable table: missing, empty, not UTF-8, without a needed column or without
            patients; unless `skip_bad`, unusable rows; and, with `images_are_patients`, a column of patients with
            several images.

    Examples:
        >>> import medloom
        >>> manifest = medloom.read_manifest("train.csv")
        >>> len(manifest), manifest.modalities
        (4, ['CXR'])
    """
    manifest = inspect_manifest(as_path(path), named=named, need=need, image_frame=image_frame, repeated=repeated)
    if manifest.problems and not skip_bad:
        raise UserError(list_problems(str(manifest.source), manifest.problems, len(manifest.problems) + len(manifest)))
    if not len(manifest):
        raise UserError(f"{path}: no row is usable; `medloom data check {path}` lists the reasons.")
    if manifest.problems:
        left_out = f"{path}: {len(manifest.problems)} bad rows were left out (--skip-bad), {len(manifest)} are used."
        manifest = replace(manifest, notes=(*manifest.notes, left_out))
    if images_are_patients:
        refuse_several_images(manifest)
        return images_as_patients(manifest)
    frame = manifest.frame.copy()
    if "patient_id" in frame:
        nameless = frame.loc[frame["patient_id"].isna(), "line"]
        if len(nameless) and need_patients:
            raise UserError(
                f"{manifest.source}, line {int(nameless.iloc[0])}: no patient in column"
                f" {manifest.columns['patient_id']!r} ({len(nameless)} such rows); name the patient in every row,"
                " or give --images-are-patients."
            )
        frame["patient_id"] = frame["patient_id"].where(frame["patient_id"].notna(), "unknown")
    elif need_patients:
        raise UserError(
            f"{manifest.source} names no patients; add a column patient_id so that no patient is in two splits,"
            " or give --images-are-patients if every image is of another patient."
        )
    else:
        frame["patient_id"] = "unknown"
    return replace(manifest, frame=frame)


def images_as_patients(manifest: Manifest) -> Manifest:
    """The manifest with a patient for each image, identified by its content, or for each row without an image."""
    frame = manifest.frame.copy()
    paths = frame["path"] if "path" in frame else [None] * len(frame)
    frame["patient_id"] = [
        f"image-{hash_content(Path(path))}" if path and file_of(path).exists() else f"row-{line}"
        for path, line in zip(paths, frame["line"], strict=True)
    ]
    return replace(manifest, frame=frame, patients_are_images=True)


def refuse_several_images(manifest: Manifest) -> None:
    """Refuse to take each image for a patient of its own where the table itself says that it is not.

    A patient would else be in training and test at once. One image in several rows is one.

    Raises:
        UserError: names the column, and how many of its patients have several images.
    """
    if "patient_id" not in manifest.frame:
        return
    images = images_as_patients(manifest).frame["patient_id"].groupby(manifest.frame["patient_id"]).nunique()
    if several := int((images > 1).sum()):
        raise UserError(
            f"{manifest.source}: --images-are-patients takes every image for another patient's, but by column"
            f" {manifest.columns['patient_id']!r} {several} of {len(images)} patients have several images; leave the"
            " option out, or give --columns patient_id=none if the column names no patients."
        )


def inspect_manifest(
    path: Path,
    *,
    named: Mapping[str, str] | None = None,
    need: Sequence[str] = ("path", "text"),
    image_frame: int | str | None = None,
    repeated: bool = False,
) -> Manifest:
    """Read a manifest and list its unusable rows.

    Checks what needs no decoding: number of fields, existence of files, empty texts, repeated paths.

    Raises:
        UserError: an unusable table: missing, empty, not UTF-8, no path or text column.
    """
    path = Path(path)
    table = read_table(path)
    found = standard_names(table.header, named or {}, str(path))
    for standard in need:
        require(found, standard, table.header, str(path))
    rows = frame_of_table(table, found, path.parent, image_frame)
    problems = [*table.problems, *row_problems(rows, found, need, repeated)]
    usable = rows[~rows["line"].isin({problem.line for problem in problems})].reset_index(drop=True)
    usable = usable.drop(columns=["frame", "pixel_unit"], errors="ignore")
    said = units_of(rows, str(path)) if "pixel_unit" in found else None
    problems.sort(key=lambda problem: problem.line)
    notes = table.notes
    if "patient_id" in found:
        stored = [row[table.header.index(found["patient_id"])] for row in table.rows]
        notes += identifier_notes(stored, table.lines, found["patient_id"])
    return Manifest(usable, path, found, tuple(problems), notes=notes, units=said)


def list_problems(source: str, problems: Sequence[Problem], total: int) -> str:
    """The message about unusable rows.

    Args:
        source: the file.
        problems: the rows.
        total: number of all rows.
    """
    listed = problems[:LISTED_PROBLEMS]
    lines = [f"  line {problem.line}: {problem.reason}" for problem in listed]
    if len(problems) > len(listed):
        lines.append(f"  ... and {len(problems) - len(listed)} more")
    return (
        f"{source}: {len(problems)} of {total} rows cannot be used;"
        " correct them, or leave them out with --skip-bad:\n" + "\n".join(lines)
    )


def _path_of(record: Mapping[str, Any], name: str) -> Path | None:
    return Path(record[name]) if record.get(name) else None


def _cell(value: Any) -> float | str | None:
    if value is None or value != value:
        return None
    return float(value) if isinstance(value, int | float) else str(value)


@dataclass(frozen=True, kw_only=True)
class ManifestOptions:
    """How a manifest is read.

    Attributes:
        images_are_patients: every image is of another patient (else a column patient_id names them); refused where such
            a column has patients with several images.
        skip_bad: skip rows that cannot be used, and say how many.
        columns: the table's own names of standard columns (path, text, modality, patient_id, time, view, split, mask,
            prior, registered_prior, instruction), e.g. text=Report patient_id="Patient ID"; text=none leaves it out.
        unit: what the values of NIfTI, MetaImage and NRRD files are, which do not say so: HU or relative, for all or by
            modality, as CT=HU,MR=relative. A column pixel_unit of the table says it too.
        frame: of images in files with several frames, where no column `frame` names it: a number from 0, or all for one
            volume of the frames of an enhanced DICOM file.
    """

    images_are_patients: bool = False
    skip_bad: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: str | None = None
    frame: str | None = None


def load_manifest(path: Path, options: ManifestOptions, need: tuple[str, ...] = ("path", "text")) -> Manifest:
    """Read a manifest as the options say; see `read_manifest`."""
    return read_manifest(
        path,
        named=options.columns,
        images_are_patients=options.images_are_patients,
        skip_bad=options.skip_bad,
        need=need,
        image_frame=frame_option(options.frame),
    )


def frame_option(frame: str | None) -> str | None:
    """The frame that an option names.

    Raises:
        UserError: neither a number nor `all`.
    """
    if not is_frame(frame):
        raise UserError(f"--frame {frame}: give a number from 0, or {ALL}.")
    return None if frame is None else frame.casefold()


def template_path(manifest: Path) -> Path:
    """The file of a manifest's own template: `mine.template.yaml` for `mine.csv`."""
    return manifest.with_name(f"{manifest.stem}.template.yaml")


def template_of(manifest: Path) -> Path | None:
    """The template stored with a manifest: its own, or the folder's `template.yaml`; None without either."""
    candidates = (template_path(manifest), manifest.with_name("template.yaml"))
    return next((path for path in candidates if path.is_file()), None)
