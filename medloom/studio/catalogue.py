"""What a studio offers: its models, and the manifests whose rows serve as examples and cases."""

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import content_stamp, hash_json
from medloom.core.lookup import look_up
from medloom.core.types import Sample
from medloom.data.manifest import Manifest, read_manifest
from medloom.report_text.findings import PRESENT, summary_of
from medloom.studio.model_facts import ModelFacts, stamp_of
from medloom.studio.store.jobs import DONE
from medloom.studio.store.store import Store

DEMO = "demo"
# How forms and readings name a row: this, its table, its line, and a mark of what it says.
ROW = "row:"
# Rows of a manifest that examples are taken from, and examples of a finding.
LOOKED_AT, OF_FINDING = 2000, 6
OTHERS = "other texts"
READING = threading.Lock()


@dataclass(frozen=True)
class KnownModel:
    """A model of the studio.

    Attributes:
        name: the end of its path, as short as it can be.
        path: the run folder.
        facts: what it can be asked; None while that is not known.
        refusal: why it cannot be used; empty if it can, or if that is not known yet.
    """

    name: str
    path: Path
    facts: ModelFacts | None
    refusal: str

    @property
    def is_being_read(self) -> bool:
        """Whether the worker has not looked at it yet."""
        return self.facts is None and not self.refusal

    def require_facts(self) -> ModelFacts:
        """What it can be asked.

        Raises:
            UserError: it cannot be used, or is being read.
        """
        if self.facts is None:
            raise UserError(self.refusal or f"the model {self.name} is being read; try again in a moment.")
        return self.facts


class Catalogue:
    """Models and manifests by name.

    Args:
        store: of the studio.
        models: run folders.
        manifests: tables of images.
        reports: folders of reports.
    """

    def __init__(
        self, store: Store, models: Sequence[Path], manifests: Sequence[Path], reports: Sequence[Path] = ()
    ) -> None:
        self._store = store
        self._models = [path.resolve() for path in models]
        self._manifests = [path.resolve() for path in manifests]
        self._reports = [path.resolve() for path in reports]

    def paths(self) -> list[Path]:
        """The run folders: those of the options, and those that demos of this studio made."""
        made = [self._store.results(job.id) / "run" for job in self._store.jobs.every(DEMO, DONE)]
        return list(dict.fromkeys([*self._models, *(path for path in made if path.is_dir())]))

    def models(self) -> list[KnownModel]:
        """All models, also those that cannot be used."""
        return [self._known(name, path) for name, path in short_names(self.paths()).items()]

    def model(self, name: str) -> KnownModel:
        """A model by its name.

        Raises:
            UserError: there is none.
        """
        return look_up({model.name: model for model in self.models()}, name, "model")

    def _known(self, name: str, path: Path) -> KnownModel:
        try:
            stamp = stamp_of(path)
        except (UserError, OSError) as error:
            return KnownModel(name, path, None, str(error))
        found = self._store.models.get(path, stamp)
        if found is None:
            return KnownModel(name, path, None, "")
        facts, refusal = found
        return KnownModel(name, path, ModelFacts.from_dict(facts) if facts else None, refusal)

    def manifests(self) -> dict[str, Path]:
        """The manifests by name: those of the options, and the held-out patients of demos."""
        made = [self._store.results(job.id) / "cohort" / "test.csv" for job in self._store.jobs.every(DEMO, DONE)]
        return short_names(list(dict.fromkeys([*self._manifests, *(path for path in made if path.is_file())])))

    def reports(self) -> dict[str, Path]:
        """The folders of reports by name: those of the options, and those of demos."""
        made = [self._store.results(job.id) / "report" for job in self._store.jobs.every(DEMO, DONE)]
        there = [path for path in (*self._reports, *made) if (path / "report.html").is_file()]
        return short_names(list(dict.fromkeys(there)))

    def manifest(self, name: str) -> Manifest:
        """A manifest by its name, read again when its file changes.

        Raises:
            UserError: there is none, or it cannot be used.
        """
        return self._opened(name).manifest

    def rows(self, name: str, part: str = "", modality: str | None = None) -> Sequence[Sample]:
        """The rows of a manifest, in order.

        Args:
            name: of the manifest.
            part: image, prior or mask that the rows have; empty for all rows.
            modality: of the rows; None for all.

        Raises:
            UserError: see `manifest`.
        """
        return self._opened(name).having(part, modality)

    def row(self, name: str, line: str) -> Sample | None:
        """The row of a manifest in a line of its file; None where there is none.

        Args:
            name: of the manifest.
            line: of the file, with the row's mark behind `@` where the row is to be that one and no other.

        Raises:
            UserError: see `manifest`; another row is in that line now.
        """
        number, _, mark = line.partition("@")
        row = self._opened(name).by_line.get(number)
        if row is not None and mark not in ("", mark_of(row)):
            raise UserError(
                f"row {number} of {name} is another one than it was, because the table has changed: choose again, or"
                " put the table back."
            )
        return row

    def named_row(self, chosen: str) -> Sample:
        """The row that a form's value names.

        Raises:
            UserError: there is none, or it is another one now.
        """
        table, line = table_and_line(chosen)
        row = self.row(table, line)
        if row is None:
            raise UserError(f"there is no row {line.partition('@')[0]} in {table}.")
        return row

    def _opened(self, name: str) -> "_Table":
        path = look_up(self.manifests(), name, "table")
        try:
            return _read(path, content_stamp(path))
        except OSError as error:
            raise UserError(
                f"the table {name} cannot be read ({error.strerror}): put it back, or choose another one."
            ) from error

    def examples(self, modality: str | None = None) -> dict[str, list[str]]:
        """Texts of the manifests, by the findings that they state.

        Args:
            modality: whose texts; None for all.
        """
        found: dict[str, list[str]] = {}
        for path in self.manifests().values():
            try:
                own = _examples(path, content_stamp(path), modality)
            except (UserError, OSError):
                continue
            for finding, texts in own.items():
                known = found.setdefault(finding, [])
                known += [text for text in texts if text not in known]
        return {finding: texts[:OF_FINDING] for finding, texts in sorted(found.items())}

    def instructions(self) -> list[str]:
        """Instructions of the manifests' rows that have a prior image, the shortest first."""
        found: dict[str, None] = {}
        for name in self.manifests():
            try:
                samples = self.rows(name, "prior")
            except (UserError, OSError):
                continue
            texts = [row.condition.text for row in samples[:LOOKED_AT] if row.condition.prior_file is not None]
            found |= dict.fromkeys(text for text in texts if text)
        return sorted(found, key=len)[: 2 * OF_FINDING]


def short_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by their last parts, as few as tell them apart.

    >>> list(short_names([Path("/runs/mm"), Path("/runs/a/run"), Path("/runs/b/run")]))
    ['mm', 'a/run', 'b/run']
    """
    named = {}
    for path in paths:
        for count in range(1, len(path.parts) + 1):
            name = "/".join(path.parts[-count:])
            if sum(other.parts[-count:] == path.parts[-count:] for other in paths) == 1:
                break
        named[name] = path
    return named


def row_name(table: str, row: Sample) -> str:
    """How a form names a row: if the table changes, another row in its line is not taken for it."""
    return f"{ROW}{table}:{row.line}@{mark_of(row)}"


def table_and_line(chosen: str) -> tuple[str, str]:
    """Table and line, with its mark, of a row that a form's value names.

    >>> table_and_line("row:a/t.csv:12@0f3c")
    ('a/t.csv', '12@0f3c')
    """
    table, _, line = chosen.removeprefix(ROW).rpartition(":")
    return table, line


def source(chosen: str) -> str:
    """A row that a form's value names, for people.

    >>> source("row:a/t.csv:12@0f3c")
    'a/t.csv, row 12'
    """
    table, line = table_and_line(chosen)
    return f"{table}, row {line.partition('@')[0]}"


def mark_of(row: Sample) -> str:
    """What another row of a table does not have: a mark of the names of its files, its texts and its cells."""
    condition = row.condition
    files = [
        None if file is None else file.parts[-2:] for file in (row.path, condition.prior_file, condition.mask_file)
    ]
    return hash_json([files, condition.text, condition.modality, condition.view, dict(condition.table)])[:8]


def part_of(sample: Sample, part: str) -> Path | None:
    """The file of a row's image; a prior of a row without one is its image."""
    condition = sample.condition
    if part == "mask":
        return condition.mask_file
    return (condition.prior_file if part == "prior" else None) or sample.path


class _Table:
    """A manifest with its rows, which pages ask for again and again.

    Attributes:
        manifest: as it was read.
        samples: its rows.
        by_line: line of the file -> row.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.samples = manifest.samples()
        self.by_line = {str(sample.line): sample for sample in self.samples}
        self._having: dict[tuple[str, str | None], list[Sample]] = {("", None): self.samples}

    def having(self, part: str, modality: str | None) -> list[Sample]:
        """The rows that have an image, or are of a modality."""
        if (part, modality) not in self._having:
            rows = [row for row in self.samples if modality in (None, row.condition.modality)]
            self._having[part, modality] = [row for row in rows if not part or part_of(row, part) is not None]
        return self._having[part, modality]


def read_table(path: Path) -> None:
    """Read a manifest before it is asked for.

    Raises:
        UserError: it cannot be used.
    """
    _read(path.resolve(), content_stamp(path.resolve()))


def _read(path: Path, stamp: tuple[int, int]) -> _Table:
    # Whoever asks while it is being read waits for it.
    with READING:
        return _read_once(path, stamp)


@functools.lru_cache(maxsize=16)
def _read_once(path: Path, stamp: tuple[int, int]) -> _Table:
    return _Table(read_manifest(path, skip_bad=True, need=(), need_patients=False))


@functools.lru_cache(maxsize=64)
def _examples(path: Path, stamp: tuple[int, int], modality: str | None) -> dict[str, list[str]]:
    """Short texts of some rows, by the findings that they state."""
    samples = _read(path, stamp).samples
    step = max(1, len(samples) // LOOKED_AT)
    found: dict[str, list[str]] = {}
    for sample in sorted(samples[::step], key=_length):
        text = sample.condition.text
        if not text or modality not in (None, sample.condition.modality):
            continue
        stated = [key[0] for key, mention in summary_of(text).items() if mention.status == PRESENT]
        for finding in dict.fromkeys(stated or [OTHERS]):
            texts = found.setdefault(finding, [])
            if text not in texts and len(texts) < OF_FINDING:
                texts.append(text)
    return found


def _length(sample: Sample) -> int:
    return len(sample.condition.text or "")
