"""The manifest: the one form in which image sets travel. One image a row; relative paths are relative to the file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.cells import MISSING
from medloom.core.errors import UserError
from medloom.core.files import content_stamp, hash_content, hash_json
from medloom.core.types import Condition, Sample
from medloom.data.columns import ALIASES, PATH_COLUMNS, require, standard_names
from medloom.data.tables import Problem, Table, read_table

if TYPE_CHECKING:
    import pandas as pd

NONE = "none"
SHOWN_PROBLEMS = 20
NO_MODALITY = "image"


@dataclass(frozen=True)
class Manifest:
    """A checked table of images.

    Attributes:
        frame: one image a row. Standard columns (`path`, `text`, `modality`, ...) under their standard names, path
            columns absolute; every other column is a clinical column and keeps its name and type. The index is the row
            number, `line` the line in the file.
        source: the file that it came from.
        columns: standard name -> the file's own name, for the columns that the file has.
        problems: rows that cannot be used.
        patients_are_images: whether each image counts as a patient of its own.
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
        """Names of the columns that are not standard ones."""
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
                condition=_condition(record, clinical),
                patient=str(record["patient_id"]),
                row=position,
                line=int(record["line"]),
                registered_prior=_path_of(record, "registered_prior"),
            )
            for position, record in enumerate(_records(self.frame))
        ]

    def select(self, keep: Iterable[bool]) -> "Manifest":
        """The manifest with only the rows for which `keep` is true."""
        # By position: an empty list would be taken for a list of no columns.
        rows = [place for place, kept in enumerate(keep) if kept]
        return replace(self, frame=self.frame.iloc[rows].reset_index(drop=True))

    def fingerprint(self) -> str:
        """A hash of the rows (paths relative to the manifest, file sizes, texts, modalities): what a run was given."""
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
        """A hash of the files' times: with the fingerprint, the key of what is cached from them."""
        files = [path for name in PATH_COLUMNS if name in self.frame for path in self.frame[name] if path]
        return hash_json([content_stamp(Path(path))[1] for path in files])

    def write(self, path: Path) -> None:
        """Write the rows to another CSV; paths become relative to it where they lie below its folder."""
        from medloom.data.tables import write_csv

        frame = self.frame.drop(columns="line")
        folder = Path(path).resolve().parent
        for name in PATH_COLUMNS:
            if name in frame:
                frame[name] = [_relative(cell, folder) for cell in frame[name]]
        cells = frame.astype(object).where(frame.notna(), None)
        write_csv(path, list(cells.columns), cells.values.tolist())


def read_manifest(
    path: Path,
    *,
    named: Mapping[str, str] | None = None,
    images_are_patients: bool = False,
    skip_bad: bool = False,
    need: Sequence[str] = ("path", "text"),
    need_patients: bool = True,
) -> Manifest:
    """Read a manifest for use: every row is right, or the error lists those that are not.

    Args:
        path: CSV, TSV, Parquet, JSONL or XLSX.
        named: standard column -> column, where the file has a name of its own.
        images_are_patients: each image is a patient of its own (told apart by the file's content).
        skip_bad: go on without rows that cannot be used; `notes` says how many.
        need: standard columns that must be there; without `path`, the rows are conditions, whose images may be missing.
        need_patients: refuse a table that names no patients.

    Raises:
        UserError: see `inspect_manifest`; and, unless `skip_bad`, any row that cannot be used.
    """
    manifest = inspect_manifest(path, named=named, need=need)
    if manifest.problems and not skip_bad:
        total = len(manifest.problems) + len(manifest)
        raise UserError(list_problems(str(manifest.source), manifest.problems, total))
    if not len(manifest):
        raise UserError(f"{path}: no row can be used; `medloom data check {path}` lists why.")
    if manifest.problems:
        left_out = f"{path}: {len(manifest.problems)} bad rows were left out (--skip-bad), {len(manifest)} are used."
        manifest = replace(manifest, notes=(*manifest.notes, left_out))
    return _with_patients(manifest, images_are_patients, need_patients)


def inspect_manifest(
    path: Path, *, named: Mapping[str, str] | None = None, need: Sequence[str] = ("path", "text")
) -> Manifest:
    """Read a manifest and collect the rows that cannot be used, by line: for `medloom data check`.

    Checks what costs no decoding: the fields, existence of files, empty texts, paths that stand twice.

    Raises:
        UserError: the table as a whole cannot be used: missing, empty, not UTF-8, no path or text column.
    """
    path = Path(path)
    table = read_table(path)
    found = standard_names(table.header, named or {}, str(path))
    for standard in need:
        require(found, standard, table.header, str(path))
    frame = _frame(table, found, path.parent)
    problems = [*table.problems, *_row_problems(frame, found, need)]
    bad = {problem.line for problem in problems}
    usable = frame[~frame["line"].isin(bad)].reset_index(drop=True)
    problems.sort(key=lambda problem: problem.line)
    return Manifest(usable, path, found, tuple(problems))


def _frame(table: Table, found: Mapping[str, str], root: Path) -> "pd.DataFrame":
    import pandas as pd

    def objects(cells: Sequence[Any]) -> "pd.Series[Any]":
        # A plain list would become a string column, in which None turns into NaN.
        return pd.Series(cells, dtype=object)

    by_column = {column: standard for standard, column in found.items()}
    header = [by_column.get(name) or _unshadowed(name, found) for name in table.header]
    frame = pd.DataFrame(table.rows, columns=header, dtype=object)
    for name in frame.columns:
        frame[name] = _typed(frame[name], name in ALIASES, table.typed)
    for name in PATH_COLUMNS:
        if name in frame:
            frame[name] = objects([None if cell is None else str((root / cell).resolve()) for cell in frame[name]])
    if "modality" not in frame:
        frame["modality"] = NO_MODALITY
    frame["line"] = table.lines
    return frame


def _unshadowed(name: str, found: Mapping[str, str]) -> str:
    """A clinical column must not bear the name of ours: of `line`, or of a standard one that is another column."""
    return f"{name}_" if name == "line" or name.casefold() in found else name


def _typed(column: "pd.Series[Any]", standard: bool, typed: bool) -> "pd.Series[Any]":
    """Missing cells become None; clinical columns of a text file get a number type where every cell is a number."""
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
    # Among words, `none` is one of them (no finding); only among numbers does it stand for a missing one.
    words = [cell if cell == NONE else value for cell, value in zip(column, values, strict=True)]
    return pd.Series(words, index=column.index, dtype=object)


def _row_problems(frame: "pd.DataFrame", found: Mapping[str, str], need: Sequence[str]) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    texts: Sequence[Any] = frame["text"].tolist() if "text" in frame else [""] * len(frame)
    masks: Sequence[Any] = frame["mask"].tolist() if "mask" in frame else [None] * len(frame)
    priors: Sequence[Any] = frame["prior"].tolist() if "prior" in frame else [None] * len(frame)
    paths: Sequence[Any] = frame["path"].tolist() if "path" in need else [None] * len(frame)
    rows = zip(frame["line"], paths, frame["modality"], texts, masks, priors, strict=True)
    for line, path, modality, text, mask, prior in rows:
        # A later image of several pairs has a row with each earlier one.
        place = f"{path}\x1f{prior or ''}"
        reason = _path_reason(path, found, seen.get(place)) if "path" in need else None
        reason = reason or _reason(modality, text, mask, found, need) or _prior_reason(prior, path, found, need)
        if reason:
            problems.append(Problem(line, reason))
        elif path:
            seen[place] = line
    return problems


def _path_reason(path: str | None, found: Mapping[str, str], seen: int | None) -> str | None:
    """Why a row's image cannot be used, or None; `seen` is the line that has it already."""
    if path is None:
        return f"column {found['path']!r}: no path"
    if seen is not None:
        return f"column {found['path']!r}: the same path as line {seen} ({path})"
    # A folder is a DICOM series.
    if not Path(path).exists():
        return f"column {found['path']!r}: file missing ({path})"
    return None


def _reason(
    modality: str | None, text: str | None, mask: str | None, found: Mapping[str, str], need: Sequence[str]
) -> str | None:
    """Why a row's condition cannot be used, or None."""
    if "text" in need and not text:
        return f"column {found['text']!r}: empty text"
    if modality is None:
        return f"column {found['modality']!r}: no modality"
    if mask is None and "mask" in need:
        return f"column {found['mask']!r}: no mask"
    if mask is not None and not Path(mask).is_file():
        return f"column {found['mask']!r}: file missing ({mask})"
    return None


def _prior_reason(prior: str | None, path: str | None, found: Mapping[str, str], need: Sequence[str]) -> str | None:
    """Why a row's earlier image cannot be used, or None."""
    if prior is None:
        return f"column {found['prior']!r}: no earlier image" if "prior" in need else None
    # A folder is a DICOM series.
    if not Path(prior).exists():
        return f"column {found['prior']!r}: file missing ({prior})"
    if prior == path:
        return f"column {found['prior']!r}: the earlier image is the image itself ({prior})"
    return None


def list_problems(source: str, problems: Sequence[Problem], total: int) -> str:
    """The sentence and the list of an error about rows that cannot be used.

    Args:
        source: the file, for the sentence.
        problems: the rows.
        total: rows in all.
    """
    shown = problems[:SHOWN_PROBLEMS]
    lines = [f"  line {problem.line}: {problem.reason}" for problem in shown]
    if len(problems) > len(shown):
        lines.append(f"  ... and {len(problems) - len(shown)} more")
    return (
        f"{source}: {len(problems)} of {total} rows cannot be used;"
        " mend them, or go on without them with --skip-bad:\n" + "\n".join(lines)
    )


def _with_patients(manifest: Manifest, images_are_patients: bool, need_patients: bool) -> Manifest:
    frame = manifest.frame.copy()
    if images_are_patients:
        paths = frame["path"] if "path" in frame else [None] * len(frame)
        frame["patient_id"] = [_own_patient(*row) for row in zip(paths, frame["line"], strict=True)]
    elif "patient_id" in frame:
        nameless = frame.loc[frame["patient_id"].isna(), "line"]
        if len(nameless) and need_patients:
            raise UserError(
                f"{manifest.source}, line {int(nameless.iloc[0])}: no patient in column"
                f" {manifest.columns['patient_id']!r} ({len(nameless)} such rows); name the patient in every row,"
                " or say --images-are-patients."
            )
        frame["patient_id"] = frame["patient_id"].where(frame["patient_id"].notna(), "unknown")
    elif need_patients:
        raise UserError(
            f"{manifest.source} names no patients; add a column patient_id so that no patient is in two splits,"
            " or say --images-are-patients where every image is another patient."
        )
    else:
        frame["patient_id"] = "unknown"
    return replace(manifest, frame=frame, patients_are_images=images_are_patients)


def _own_patient(path: str | None, line: int) -> str:
    """A patient for each image, or each row where a condition has none."""
    return f"image-{hash_content(Path(path))}" if path and Path(path).exists() else f"row-{line}"


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(name): cell for name, cell in record.items()} for record in frame.to_dict("records")]


def _condition(record: Mapping[str, Any], clinical: Sequence[str]) -> Condition:
    return Condition(
        text=record.get("instruction") or record.get("text"),
        modality=record["modality"],
        view=record.get("view"),
        prior=_path_of(record, "prior"),
        mask=_path_of(record, "mask"),
        table={name: _cell(record[name]) for name in clinical},
    )


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
