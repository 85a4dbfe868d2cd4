"""The images of a reader study: synthetic ones, in one arm or several, and real ones among them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medloom.core.cells import spelled
from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.data.manifest import Manifest
from medloom.data.manifest_rows import records_of

SYNTHETIC, REAL = "synthetic", "real"
ARM, CASE, TRUTH = "arm", "case", "truth"


@dataclass(frozen=True)
class StudyImage:
    """An image that readers see.

    Attributes:
        item: its neutral name.
        path: of the original.
        source: synthetic or real.
        case: what its images in several arms have in common.
        arm: empty for real images, and where there are no arms.
        truth: 1 for a positive, by the column `truth` of the manifest, or for a synthetic image.
        text: its prompt or report.
        modality: as the manifest has it.
        patient: or empty.
    """

    item: str
    path: Path
    source: str
    case: str
    arm: str
    truth: int
    text: str
    modality: str
    patient: str


def study_images(synthetic: Manifest, real: Manifest | None, cases: int, seed: int) -> list[StudyImage]:
    """Draw the images of a study, and give them neutral names in random order.

    Args:
        synthetic: with a column `arm` where readers see the same cases in several arms; a column `case` then says which
            images belong together.
        real: real images that are hidden among them, or None. Half of the cases are real then.
        cases: number of cases; 0 for all.
        seed: of the draws.

    Raises:
        UserError: too few cases, an arm that lacks a case, a case twice in an arm, truths that are neither 0 nor 1, or
            real images of a modality that no synthetic image has.
    """
    rows = _rows(synthetic, SYNTHETIC)
    hidden = [] if real is None else _rows(real, REAL)
    if real is not None:
        known = {row.modality for row in rows}
        if odd := sorted({row.modality for row in hidden} - known):
            raise UserError(
                f"{real.source}: real images of modality {odd[0]!r}, which no synthetic image has; readers would know"
                f" them by it. Leave them out, or name modalities alike ({', '.join(sorted(known))})."
            )
    arms = sorted({row.arm for row in rows})
    by_case: dict[str, list[StudyImage]] = {}
    for row in rows:
        by_case.setdefault(row.case, []).append(row)
    for case, own in by_case.items():
        counts = Counter(row.arm for row in own)
        twice = [arm for arm, count in counts.items() if count > 1]
        lacking = [arm for arm in arms if arm not in counts]
        if twice or lacking:
            what = (
                f"has case {case!r} twice in arm {twice[0]!r}"
                if twice
                else f"lacks case {case!r} in arm {lacking[0]!r}"
            )
            raise UserError(f"{synthetic.source} {what}; every case needs one image in each of {', '.join(arms)}.")
    wanted = len(by_case) + len(hidden) if cases == 0 else cases
    of_real = 0 if real is None else (len(hidden) if cases == 0 else wanted // 2)
    of_synthetic = wanted - of_real
    if of_real > len(hidden) or of_synthetic > len(by_case):
        raise UserError(
            f"--cases {cases} takes {of_synthetic} synthetic and {of_real} real cases, and there are {len(by_case)} and"
            f" {len(hidden)}; give fewer, or more images."
        )
    rng = numpy_generator("reader study cases", seed)
    chosen = [list(by_case.values())[place] for place in sorted(rng.permutation(len(by_case))[:of_synthetic])]
    images = [row for own in chosen for row in own]
    images += [hidden[place] for place in sorted(rng.permutation(len(hidden))[:of_real])]
    digits = max(4, len(str(len(images))))
    names = [f"i{number + 1:0{digits}d}" for number in rng.permutation(len(images))]
    named = [replace(image, item=name) for name, image in zip(names, images, strict=True)]
    return sorted(named, key=lambda image: image.item)


def arms_of(images: Sequence[StudyImage]) -> list[str]:
    """The arms of synthetic images; one empty name where there are none."""
    return sorted({image.arm for image in images if image.source == SYNTHETIC})


def _rows(manifest: Manifest, source: str) -> list[StudyImage]:
    frame = manifest.frame
    has_arms = source == SYNTHETIC and ARM in frame and frame[ARM].notna().any()
    if has_arms and CASE not in frame:
        raise UserError(
            f"{manifest.source} has a column {ARM!r} and no column {CASE!r}, which says what images of several arms"
            " belong together; add it."
        )
    rows = []
    for record in records_of(frame):
        where = f"{manifest.source}, line {record['line']}"
        arm, case = (spelled(record.get(name)) for name in (ARM, CASE))
        if has_arms and not (arm and case):
            raise UserError(f"{where}: no {CASE if arm else ARM}; give both in every row.")
        stated = spelled(record.get(TRUTH))
        if stated not in ("", "0", "1"):
            raise UserError(f"{where}: {TRUTH} is {stated!r}; allowed are 0 and 1.")
        truth = int(stated) if stated else int(source == SYNTHETIC)
        own = case if has_arms else f"{source}, line {record['line']}"
        patient = spelled(record.get("patient_id"))
        rows.append(
            StudyImage(
                "",
                Path(record["path"]),
                source,
                own,
                arm if has_arms else "",
                truth,
                spelled(record.get("text")),
                record["modality"],
                "" if patient == "unknown" else patient,
            )
        )
    return rows
