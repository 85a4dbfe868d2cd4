"""The columns of a manifest: standard names, and the aliases by which they are recognised."""

from collections.abc import Mapping, Sequence

from medloom.core.errors import UserError
from medloom.core.lookup import closest, did_you_mean, look_up

ALIASES: dict[str, tuple[str, ...]] = {
    "path": ("image", "image_path", "file", "filename", "img"),
    "text": ("prompt", "caption", "report", "impression"),
    "modality": ("modal",),
    "patient_id": ("patient", "patientid", "subject_id", "subject"),
    "time": ("study_date", "date"),
    "view": ("view_position", "viewposition"),
    "split": (),
    "mask": ("mask_path",),
    "prior": ("prior_path",),
    "registered_prior": (),
    "instruction": (),
    "frame": (),
    "pixel_unit": (),
}
# Instead of a column's name: there is none.
NONE = "none"
PATH_COLUMNS = ("path", "mask", "prior", "registered_prior")


def standard_names(header: Sequence[str], named: Mapping[str, str], where: str) -> dict[str, str]:
    """Map each standard column that a table has to the table's own name for it.

    Args:
        header: the table's column names, blanks trimmed.
        named: standard name -> column, as the user said (`--columns text=clinical_notes`); `none` for a column that is
            left out.
        where: the file, for errors.

    Raises:
        UserError: an unknown standard name, a named column that the table lacks, a column twice, or two aliases of one
            standard column.
    """
    for standard in named:
        look_up(ALIASES, standard, "standard column of --columns")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise UserError(f"{where}: column {repeated[0]!r} stands twice in the header; rename one.")
    folded = {name.casefold(): name for name in header}
    found: dict[str, str] = {}
    for standard, aliases in ALIASES.items():
        present = [folded[alias] for alias in aliases if alias in folded]
        if named.get(standard) == NONE:
            continue
        if standard in named:
            column = named[standard]
            if column not in header:
                hint = did_you_mean(column, header) or "."
                raise UserError(f"{where}: no column {column!r} for {standard}{hint} Columns: {', '.join(header)}.")
            found[standard] = column
        elif standard in folded:
            found[standard] = folded[standard]
        elif len(present) > 1:
            raise UserError(
                f"{where}: columns {' and '.join(map(repr, present))} could both be the {standard};"
                f" say which with --columns {standard}=NAME."
            )
        elif present:
            found[standard] = present[0]
    return found


def require(found: Mapping[str, str], standard: str, header: Sequence[str], where: str) -> None:
    """Refuse a table that lacks a standard column.

    Raises:
        UserError: says the names it is recognised by, the closest column, and the table's columns.
    """
    if standard in found:
        return
    names = (standard, *ALIASES[standard])
    slip = next((name for name in header if closest(name, names)), None)
    # Images may be trained on without texts.
    without = f" (--columns text={NONE}: train without texts)" if standard == "text" else ""
    hint = f" (column {slip!r}, did you mean {closest(slip, names)!r}?)" if slip else ""
    raise UserError(
        f"{where}: no {standard} column{hint}; it is recognised as {', '.join(names)}."
        f" Columns: {', '.join(header)}. Rename one, or name it with --columns {standard}=NAME{without}."
    )
