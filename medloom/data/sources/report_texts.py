"""The texts of reports, taken from the wanted sections, and counts of the sections."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.data.sources.tally import LEFT_OUT, Tally
from medloom.report_text.comparisons import without_comparisons
from medloom.report_text.sections import PREAMBLE, SECTIONS, count_sections

if TYPE_CHECKING:
    import pandas as pd

TEXT = "Text"
RETAINED = "retained, Text is empty"
# All sections of a report, each after its heading in capitals; `sections_of` separates them again.
WHOLE = "report"


@dataclass(frozen=True)
class TextRules:
    """The part of a report that becomes the text of its images.

    Attributes:
        wanted: sections by preference; the first one in a report is used.
        columns: sections that get a column of their own, verbatim; "report" means all of them.
        strip_comparisons: remove comparisons with prior studies (`medloom.report_text.comparisons`).
        keep_empty: keep images without a text.
    """

    wanted: tuple[str, ...] = ("impression", "findings")
    columns: tuple[str, ...] = ()
    strip_comparisons: bool = False
    keep_empty: bool = False

    def __post_init__(self) -> None:
        if not self.wanted:
            raise UserError(f"--sections: name at least one of {', '.join(SECTIONS)}.")
        for names, known in ((self.wanted, SECTIONS), (self.columns, (*SECTIONS, WHOLE))):
            for name in names:
                look_up(dict.fromkeys(known), name, "section of a report")

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return [name.replace(" ", "_") for name in self.columns]


@dataclass
class Texts:
    """The texts of reports.

    Attributes:
        texts: report -> its text; empty without any wanted section.
        columns: section -> report -> the section, for the sections that get a column.
        had: section -> number of reports with it; "reports" counts all of them.
        used: section -> number of texts from it.
        only_compared: reports whose text consists of comparisons with prior studies.
    """

    texts: dict[str, str] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    had: dict[str, int] = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)
    only_compared: set[str] = field(default_factory=set)


def gather_texts(reports: Iterable[tuple[str, Mapping[str, str]]], rules: TextRules) -> Texts:
    """The texts of reports, one report at a time.

    Args:
        reports: name and sections of each report.
        rules: the part that becomes the text.
    """
    gathered = Texts(columns={name: {} for name in rules.columns})

    def taken() -> Iterator[Mapping[str, str]]:
        for name, sections in reports:
            chosen = next((section for section in rules.wanted if sections.get(section)), None)
            text = sections[chosen] if chosen else ""
            if chosen and rules.strip_comparisons:
                text = without_comparisons(text)
                if not text:
                    gathered.only_compared.add(name)
            if chosen and text:
                gathered.used[chosen] += 1
            gathered.texts[name] = text
            for section, column in gathered.columns.items():
                column[name] = whole_report(sections) if section == WHOLE else sections.get(section, "")
            yield sections

    gathered.had = count_sections(taken())
    return gathered


def whole_report(sections: Mapping[str, str]) -> str:
    """All sections of a report in one line, each after its heading in capitals; the preamble has no heading."""
    return " ".join(text if name == PREAMBLE else f"{name.upper()}: {text}" for name, text in sections.items() if text)


def add_texts(frame: "pd.DataFrame", key: str, texts: Texts, rules: TextRules, tally: Tally) -> "pd.DataFrame":
    """The rows with their texts and sections; rows without a text are left out unless the rules keep them.

    Args:
        frame: one image or report per row.
        key: column with the names of the reports.
        texts: of the reports.
        rules: of the texts.
        tally: records the counts.
    """
    frame = frame.assign(**{TEXT: frame[key].map(texts.texts)})
    missing = frame[TEXT].isna()
    compared = frame[key].isin(texts.only_compared)
    sections = " or ".join(rules.wanted)
    fate = RETAINED if rules.keep_empty else LEFT_OUT
    lacks = [("a report", missing), (f"a section {sections}", (frame[TEXT] == "") & ~compared)]
    if rules.strip_comparisons:
        lacks.append(("a text other than comparisons", compared))
    for rule, lacking in lacks:
        names = frame.loc[lacking, key].drop_duplicates()
        tally.add(rule, int(lacking.sum()), f"rows of {len(names)} reports", fate, names)
    frame[TEXT] = frame[TEXT].fillna("")
    for name, column in zip(rules.column_names, texts.columns.values(), strict=True):
        frame[name] = frame[key].map(column).fillna("")
    return frame if rules.keep_empty else frame[frame[TEXT] != ""].reset_index(drop=True)
