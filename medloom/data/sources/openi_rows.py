"""The Open-i reports as rows of a manifest: one image a row, or one report a row where no images are there.

The rules:

- A caption is stated for the study; the view is the one that it names, and empty where it names two or none. A report's
  own row has the view that all its captions name.
- The collection names no patients; each report counts as a patient of its own.
- `mesh` holds the labels of the annotators with "; " between them, as "Opacity/lung/base/left; Cardiomegaly".
- `findings` and `impression` have columns of their own, as they stand in the report.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.data.sources.openi import OpenReport
from medloom.data.sources.tally import Tally

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("findings", "impression")
SUFFIX = ".png"
# An image's name becomes a path, so it holds nothing that could lead elsewhere.
NAME = re.compile(r"\w[\w.-]*")


def report_rows(reports: Sequence[OpenReport]) -> "pd.DataFrame":
    """One row a report: patient_id, view and mesh."""
    import pandas as pd

    rows = [(report.id, _common_view(report), "; ".join(report.mesh)) for report in reports]
    return pd.DataFrame(rows, columns=["patient_id", "view", "mesh"])


def image_rows(reports: Sequence[OpenReport], images: Path, skip_bad: bool, tally: Tally) -> "pd.DataFrame":
    """One row an image: file (its name in the folder), patient_id, view and mesh.

    Args:
        reports: as `read_openi` gives them.
        images: folder with `<image's name>.png`.
        skip_bad: go on without images that are not in the folder.
        tally: gets the counts.

    Raises:
        UserError: no such folder, an image's name that is none, or images that are not there and not to be skipped.
    """
    import pandas as pd

    if not images.is_dir():
        raise UserError(f"--images {images} is not a folder; name the folder that NLMCXR_png.tgz is unpacked in.")
    bare = [report.id for report in reports if not report.images]
    tally.add("an image that the report names", len(bare), "reports", names=bare)
    rows, missing = [], []
    for report in reports:
        for image in report.images:
            name = _file(report, image.id)
            if (images / name).is_file():
                rows.append((name, report.id, image.view or "", "; ".join(report.mesh)))
            else:
                missing.append(name)
    tally.skip_or_refuse(skip_bad, str(images), "a file", missing, len(rows) + len(missing))
    frame = pd.DataFrame(rows, columns=["file", "patient_id", "view", "mesh"])
    twice = frame["file"].duplicated()
    tally.add("a row for each file", int(twice.sum()), "images", "left out, another report names the image too")
    return frame[~twice].reset_index(drop=True)


def _file(report: OpenReport, name: str) -> str:
    if not NAME.fullmatch(name):
        raise UserError(f"report {report.id} names an image {name!r}, which is no name of a file; correct the report.")
    return f"{name}{SUFFIX}"


def _common_view(report: OpenReport) -> str:
    views = {image.view for image in report.images}
    return (views.pop() or "") if len(views) == 1 else ""
