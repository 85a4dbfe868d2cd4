"""`medloom checklist`: a reporting guideline, filled in as far as a run and a report know."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from medloom.core.errors import UserError

if TYPE_CHECKING:
    from medloom.evaluation.checklists.guideline import Guideline
    from medloom.generators.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Config:
    """Fill in a reporting guideline from a run and a report; what they do not know is named as a gap.

    Attributes:
        data: run folder of a generator, or folder of a report of `medloom evaluate`.
        out: the Markdown file.
        report: folder of a report on the run.
        standard: claim (CLAIM 2024, AI in medical imaging) or tripod (TRIPOD+AI, prediction models).
    """

    common: ClassVar[tuple[str, ...]] = ("report", "standard")
    example: ClassVar[str] = "medloom checklist runs/mm --report report --standard claim --out checklist.md"

    data: Path
    out: Path
    report: Path | None = None
    standard: str = "claim"


def run(config: Config) -> Path:
    """Write the checklist; returns its path.

    Raises:
        UserError: an unknown guideline, or folders that are neither a run nor a finished report.
    """
    from medloom.core.files import write_text
    from medloom.core.lookup import look_up
    from medloom.core.progress import say
    from medloom.evaluation.checklists.claim import CLAIM
    from medloom.evaluation.checklists.guideline import Known, checklist
    from medloom.evaluation.checklists.tripod import TRIPOD

    standards: dict[str, Guideline] = {"claim": CLAIM, "tripod": TRIPOD}
    guideline = look_up(standards, config.standard, "guideline in --standard")
    model, scores = _read(config)
    text, filled, left = checklist(guideline, Known(model, scores))
    write_text(config.out, text)
    say(f"{guideline.title}: {filled} items are filled, {left} are open: {config.out}")
    return config.out


def _read(config: Config) -> tuple["RunFolder | None", dict[str, Any]]:
    """The run, or None, and the scores of the report, empty without one.

    Raises:
        UserError: see `run`.
    """
    from medloom.evaluation.report.report import SCORES
    from medloom.generators.run_folder import find_run
    from medloom.generators.storage import open_generator

    is_report = (config.data / SCORES).is_file()
    if is_report and config.report is not None:
        raise UserError(f"{config.data} is a report, and --report names another one; give a run folder and one report.")
    if is_report:
        return None, _scores(config.data)
    if not config.data.is_dir() or find_run(config.data) is None:
        raise UserError(
            f"{config.data} is neither a run folder that `medloom train` wrote nor a report of `medloom evaluate`;"
            " give one of them, and a report on a run with --report."
        )
    return open_generator(config.data, "--data"), {} if config.report is None else _scores(config.report)


def _scores(folder: Path) -> dict[str, Any]:
    """scores.json of a finished report.

    Raises:
        UserError: there is none, or it is not finished.
    """
    from medloom.core.files import read_mapping
    from medloom.evaluation.report.report import SCORES

    if not (folder / SCORES).is_file():
        raise UserError(f"--report {folder} has no {SCORES}; give a folder that `medloom evaluate` wrote.")
    scores = read_mapping(folder / SCORES)
    if not scores.get("finished"):
        raise UserError(f"{folder} is a report that was interrupted; run the same evaluation again.")
    return scores
