"""What images are asked for, one by one, and where their conditions come from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import hash_file, hash_json, hash_text, known_content
from medloom.core.frames import file_of
from medloom.core.progress import say
from medloom.core.seeds import MAX_SEED
from medloom.core.types import Condition, Sample
from medloom.data.manifest import Manifest, list_problems, read_manifest
from medloom.data.tables import Problem, row_ids
from medloom.generation.options import LABEL_COLUMNS, GenerationOptions
from medloom.generators.base import AnyGenerator
from medloom.generators.generated_images import FACTUAL


@dataclass(frozen=True)
class Source:
    """Where an image's condition comes from.

    Attributes:
        source: hash of the row's line, salted by the table.
        patient: hash of the patient, salted by the table.
        image: file of the row's own image, which may not exist; None without a row.
        row: the row; None for a condition that stands alone.
    """

    source: str = ""
    patient: str = ""
    image: Path | None = None
    row: Sample | None = None

    def study(self, condition: Condition) -> str:
        """A hash that the images of one row have in common, and those of no other row, in any table.

        Args:
            condition: of the image, which stands for itself where there is no row.
        """
        if self.row is None:
            return condition.hash()
        known = self.row.condition
        files = [path for path in (known.mask_file, known.prior_file) if path is not None and file_of(path).exists()]
        parts = known.without(frozenset({"mask", "prior"})).to_dict()
        return hash_json([self.row.row, parts, [known_content(path) for path in files]])


@dataclass(frozen=True)
class Request:
    """One image to generate.

    Attributes:
        number: of the image in the folder.
        condition: what it shows.
        seed: of all its noise.
        origin: where the condition comes from.
        cells: of the manifest's further columns.
        arm: `factual`, or what was changed.
        attribute: the columns that were changed.
        value: what they were changed to.
        support: training patients near the changed row; None where they were not counted or nothing changes.
    """

    number: int
    condition: Condition
    seed: int
    origin: Source
    cells: tuple[object, ...] = ()
    arm: str = FACTUAL
    attribute: str | None = None
    value: str | None = None
    support: int | None = None

    def shown(self, with_text: bool) -> Condition:
        """The condition as manifests and pictures show it: instead of a table's text its line.

        Args:
            with_text: show the text itself.
        """
        row = self.origin.row
        if row is None or with_text or self.condition.text is None:
            return self.condition
        return replace(self.condition, text=f"text of line {row.line}")

    @property
    def sample_id(self) -> str:
        """The image's name; nothing of a table is in it."""
        return f"{self.number:06d}"


def read_conditions(options: GenerationOptions, data: Path, need: Sequence[str]) -> Manifest:
    """The manifest of conditions, whose images need not be there; says what was left out of it."""
    manifest = read_manifest(
        data,
        named=options.columns,
        images_are_patients=options.images_are_patients,
        skip_bad=options.skip_bad,
        need=need,
        need_patients=False,
    )
    for note in manifest.notes:
        say(note)
    return manifest


def answerable(
    data: Path, samples: Sequence[Sample], generator: AnyGenerator, skip_bad: bool, allow_unseen: bool = False
) -> list[Sample]:
    """The rows that a model can be asked for: all of them, or less those that are skipped, whose number is said.

    Args:
        data: the table of the rows.
        samples: the rows.
        generator: the model.
        skip_bad: leave out rows instead of refusing them.
        allow_unseen: allow numbers outside those in training.

    Raises:
        UserError: lists rows that lack what every training image had, or whose table has what training had not.
    """
    rules, problems = generator.rules, []
    for sample in samples:
        reason = generator.table_refusal(sample.condition) or rules.lacking(sample.condition)
        if reason is None and not allow_unseen and (unseen := rules.unseen(sample.condition)):
            reason = f"{unseen} (--allow-unseen allows it)"
        if reason is not None:
            problems.append(Problem(sample.line, reason))
    if not problems:
        return list(samples)
    if len({problem.reason for problem in problems}) == 1 and len(problems) == len(samples):
        first = problems[0]
        raise UserError(f"{data}, line {first.line}: {first.reason.removesuffix('.')}, as in all other rows.")
    if not skip_bad or len(problems) == len(samples):
        raise UserError(list_problems(str(data), problems, len(samples)))
    say(f"{data}: {len(problems)} of {len(samples)} rows were left out, which a model cannot follow (--skip-bad).")
    bad = {problem.line for problem in problems}
    return [sample for sample in samples if sample.line not in bad]


def kept_columns(keep: Sequence[str], manifest: Manifest) -> list[str]:
    """The clinical columns to carry along.

    Raises:
        UserError: one that was asked for and is not there.
    """
    kept = [name for name in keep if name in manifest.clinical_columns]
    if missing := [name for name in keep if name not in kept and name not in LABEL_COLUMNS]:
        raise UserError(f"--keep: {manifest.source} has no clinical column {missing[0]!r}.")
    return kept


def origins(data: Path, samples: Sequence[Sample]) -> list[Source]:
    """Where the images of some rows come from, without saying whose they are."""
    salt, ids = hash_file(data), row_ids(data, [sample.line for sample in samples])
    return [
        Source(source, hash_text(f"{salt}{sample.patient}"), sample.path, sample)
        for source, sample in zip(ids, samples, strict=True)
    ]


def check_seeds(options: GenerationOptions, images: int) -> None:
    """Refuse a seed from which so many cannot be counted.

    Raises:
        UserError: the last seed would pass 63 bits.
    """
    if options.seed + images - 1 > MAX_SEED:
        raise UserError(f"--seed {options.seed} with {images} images passes {MAX_SEED}; take a smaller one.")
