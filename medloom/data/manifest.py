"""The manifest: a table of an image set, one image per row, with paths relative to its own folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.cells import MISSING
from medloom.core.errors import UserError
from medloom.core.files import content_stamp, hash_content, hash_json
from medloom.core.types import Condition, Sample
from medloom.data.columns import ALIASES, PATH_COLUMNS, require, standard_names
from medloom.data.tables import Problem, Table, read_table, write_csv

if TYPE_CHECKING:
    import pandas as pd

NONE = "none"
LISTED_PROBLEMS = 20
NO_MODALITY = "image"


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
            for position, record in enumerate(_records(self.frame))
        ]

    def select(self, keep: Iterable[bool]) -> "Manifest":
        """The manifest with only the rows for which `keep` is true."""
        # By position: pandas takes an empty list of booleans for a list of columns.
        rows = [row for row, wanted in enumerate(keep) if wanted]
        return replace(self, frame=self.frame.iloc[rows].reset_index(drop=True))

    def fingerprint(self) -> str:
        """A hash of the rows: paths relative to the manifest, file sizes, texts, modalities and so on."""
        root = self.source.parent.resolve()
        names = [
            name
            for name in ("text", "instruction", "modality", "view", "patient_id", "mask", "prior")
            if name in self.frame
        ]
        rows = [[str(cell).removeprefix(f"{root}/") for cell in row] for row in self.frame[names].values.tolist()]
        files = [[_relative(path, root), content_stamp(Path(path))[0]] for path in self.frame["path"]]
        return hash_json([names, rows, files])

    def stamp(self) -> str:
        """A hash of the files' times; caches are keyed by it and the fingerprint."""
        files = [path for name in PATH_COLUMNS if name in self.frame for path in self.frame[name] if path]
        return hash_json([content_stamp(Path(path))[1] for path in files])

    def write(self, path: Path) -> None:
        """Write the rows to another CSV; paths within its folder become relative to it."""
        frame = self.frame.drop(columns="line")
        folder = Path(path).resolve().parent
        for name in PATH_COLUMNS:
            if name in frame:
                frame[name] = [_relative(cell, folder) for cell in frame[name]]
        cells = frame.astype(object).where(frame.notna(), None)
        write_csv(path, list(cells.columns), cells.values.tolist())


def read_manifest(
    path: Path | str,
    *,
    named: Mapping[str, str] | None = None,
    images_are_patients: bool = False,
    skip_bad: bool = False,
    need: Sequence[str] = ("path", "text"),
    need_patients: bool = True,
) -> Manifest:
    """Read a manifest whose rows are all usable.

    Args:
        path: CSV, TSV, Parquet, JSONL or XLSX.
        named: standard column -> column, where the file has a name of its own.
        images_are_patients: each image is a patient of its own; files with the same content are one patient.
        skip_bad: continue without unusable rows; `notes` gives their number.
        need: required standard columns; without `path`, the rows are conditions, whose images may be missing.
        need_patients: refuse a table without patients.

    Raises:
        UserError: an unusable table: missing, empty, not UTF-8, without a needed column or without patients; and,
            unless `skip_bad`, unusable rows.

    Examples:
        >>> import medloom
        >>> manifest = medloom.read_manifest("train.csv")
        >>> len(manifest), manifest.modalities
        (4, ['CXR'])
    """
    manifest = inspect_manifest(Path(path), named=named, need=need)
    if manifest.problems and not skip_bad:
        raise UserError(list_problems(str(manifest.source), manifest.problems, len(manifest.problems) + len(manifest)))
    if not len(manifest):
        raise UserError(f"{path}: no row is usable; `medloom data check {path}` lists the reasons.")
    if manifest.problems:
        left_out = f"{path}: {len(manifest.problems)} bad rows were left out (--skip-bad), {len(manifest)} are used."
        manifest = replace(manifest, notes=(*manifest.notes, left_out))
    frame = manifest.frame.copy()
    if images_are_patients:
        paths = frame["path"] if "path" in frame else [None] * len(frame)
        # A patient for each image, or for each row without an image.
        frame["patient_id"] = [
            f"image-{hash_content(Path(path))}" if path and Path(path).exists() else f"row-{line}"
            for path, line in zip(paths, frame["line"], strict=True)
        ]
    elif "patient_id" in frame:
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
    return replace(manifest, frame=frame, patients_are_images=images_are_patients)


def inspect_manifest(
    path: Path, *, named: Mapping[str, str] | None = None, need: Sequence[str] = ("path", "text")
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
    frame = _frame(table, found, path.parent)
    problems = [*table.problems, *_row_problems(frame, found, need)]
    usable = frame[~frame["line"].isin({problem.line for problem in problems})].reset_index(drop=True)
    problems.sort(key=lambda problem: problem.line)
    return Manifest(usable, path, found, tuple(problems))


def _frame(table: Table, found: Mapping[str, str], root: Path) -> "pd.DataFrame":
    import pandas as pd

    by_column = {column: standard for standard, column in found.items()}
    # A clinical column gets a name that differs from `line` and from the standard names.
    header = [
        by_column.get(name) or (f"{name}_" if name == "line" or name.casefold() in found else name)
        for name in table.header
    ]
    frame = pd.DataFrame(table.rows, columns=header, dtype=object)
    for name in frame.columns:
        frame[name] = _typed(frame[name], name in ALIASES, table.typed)
    for name in PATH_COLUMNS:
        if name in frame:
            # As objects: a plain list would become a string column, in which None turns into NaN.
            paths = [None if cell is None else str((root / cell).resolve()) for cell in frame[name]]
            frame[name] = pd.Series(paths, dtype=object)
    if "modality" not in frame:
        frame["modality"] = NO_MODALITY
    frame["line"] = table.lines
    return frame


def _typed(column: "pd.Series[Any]", standard: bool, typed: bool) -> "pd.Series[Any]":
    """Missing cells become None; clinical columns of a text file become numeric if all their cells are numbers."""
    import pandas as pd

    missing = [cell is None or (isinstance(cell, str) and cell.strip().casefold() in MISSING) for cell in column]
    values = [None if gone else cell for gone, cell in zip(missing, column, strict=True)]
    cells = pd.Series(values, index=column.index, dtype=object)
    if standard:
        texts = [None if cell is None else str(cell).strip() for cell in values]
        return pd.Series(texts, index=column.index, dtype=object)
    numbers = cells.infer_objects() if typed else pd.to_numeric(cells, errors="coerce")
    numeric = pd.api.types.is_numeric_dtype(numbers)
    if numeric and bool((numbers.notna() | cells.isna()).all()) and bool(numbers.notna().any()):
        return numbers
    # Among words, `none` is a value (no finding); only among numbers does it mean missing.
    words = [cell if cell == NONE else value for cell, value in zip(column, values, strict=True)]
    return pd.Series(words, index=column.index, dtype=object)


def _row_problems(frame: "pd.DataFrame", found: Mapping[str, str], need: Sequence[str]) -> list[Problem]:
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for record in _records(frame):
        path, mask, prior = record["path"] if "path" in need else None, record.get("mask"), record.get("prior")
        # The current image of several pairs has one row with each prior image.
        pair = f"{path}\x1f{prior or ''}"
        # The image and its prior may be folders: DICOM series.
        checks = (
            ("path", "path" in need and path is None, "no path"),
            ("path", pair in lines, f"the same path as line {lines.get(pair)} ({path})"),
            ("path", path is not None and not Path(path).exists(), f"file missing ({path})"),
            ("text", "text" in need and not record.get("text"), "empty text"),
            ("modality", record["modality"] is None, "no modality"),
            ("mask", "mask" in need and mask is None, "no mask"),
            ("mask", mask is not None and not Path(mask).is_file(), f"file missing ({mask})"),
            ("prior", "prior" in need and prior is None, "no prior image"),
            ("prior", prior is not None and not Path(prior).exists(), f"file missing ({prior})"),
            ("prior", prior is not None and prior == path, f"the prior image is the image itself ({prior})"),
        )
        faults = [f"column {found[column]!r}: {reason}" for column, wrong, reason in checks if wrong]
        if faults:
            problems.append(Problem(record["line"], faults[0]))
        elif path:
            lines[pair] = record["line"]
    return problems


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


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(name): cell for name, cell in record.items()} for record in frame.to_dict("records")]


def _path_of(record: Mapping[str, Any], name: str) -> Path | None:
    return Path(record[name]) if record.get(name) else None


def _cell(value: Any) -> float | str | None:
    if value is None or value != value:
        return None
    return float(value) if isinstance(value, int | float) else str(value)


def _relative(path: str | None, folder: Path) -> str | None:
    if path is None or path != path:
        return None
    resolved = Path(path)
    return resolved.relative_to(folder).as_posix() if resolved.is_relative_to(folder) else str(resolved)


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


def template_path(manifest: Path) -> Path:
    """The file of a manifest's own template: `mine.template.yaml` for `mine.csv`."""
    return manifest.with_name(f"{manifest.stem}.template.yaml")


def template_of(manifest: Path) -> Path | None:
    """The template stored with a manifest: its own, or the folder's `template.yaml`; None without either."""
    candidates = (template_path(manifest), manifest.with_name("template.yaml"))
    return next((path for path in candidates if path.is_file()), None)
