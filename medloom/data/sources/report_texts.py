"""The text of each report's images, by the sections that are wanted, and what the reports had."""

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
KEPT = "kept, Text is empty"
# All sections of a report, each after its heading in capitals, by which `sections_of` takes them apart again; a heading
# that stands within a section becomes one then.
WHOLE = "report"


@dataclass(frozen=True)
class TextRules:
    """Which words of a report become the text of its images.

    Attributes:
        wanted: sections in the order in which they are tried; the first that a report has is taken.
        columns: sections that get a column of their own, as they stand in the report; "report" is all of them.
        strip_comparisons: leave out the words on earlier studies (`medloom.report_text.comparisons`).
        keep_empty: keep the images that get no text.
    """

    wanted: tuple[str, ...] = ("impression", "findings")
    columns: tuple[str, ...] = ()
    strip_comparisons: bool = False
    keep_empty: bool = False

    def __post_init__(self) -> None:
        if not self.wanted:
            raise UserError(f"--sections: name at least one of {', '.join(SECTIONS)}.")
        for name in self.wanted:
            look_up(dict.fromkeys(SECTIONS), name, "section of a report")
        for name in self.columns:
            look_up(dict.fromkeys((*SECTIONS, WHOLE)), name, "section of a report")

    @property
    def column_names(self) -> list[str]:
        """What the columns are called."""
        return [name.replace(" ", "_") for name in self.columns]


@dataclass
class Texts:
    """What was taken from reports.

    Attributes:
        texts: report's name -> its text; empty where it has none of the wanted sections.
        columns: section -> report's name -> the section, for the sections that get a column.
        had: section -> how many reports had it; "reports" counts them all.
        used: section -> how many texts it became.
        only_compared: reports of whose text nothing is left without the words on earlier studies.
    """

    texts: dict[str, str] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    had: dict[str, int] = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)
    only_compared: set[str] = field(default_factory=set)


def gather_texts(reports: Iterable[tuple[str, Mapping[str, str]]], rules: TextRules) -> Texts:
    """The texts of reports, one report at a time.

    Args:
        reports: each report's name and its sections.
        rules: what becomes a text.
    """
    gathered = Texts(columns={name: {} for name in rules.columns})

    def taken() -> Iterator[Mapping[str, str]]:
        for name, sections in reports:
            _take(gathered, name, sections, rules)
            yield sections

    gathered.had = count_sections(taken())
    return gathered


def _take(gathered: Texts, name: str, sections: Mapping[str, str], rules: TextRules) -> None:
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


def whole_report(sections: Mapping[str, str]) -> str:
    """All sections of a report in one line, each after its heading in capitals, a preamble first and without one."""
    parts = [text if name == PREAMBLE else f"{name.upper()}: {text}" for name, text in sections.items() if text]
    return " ".join(parts)


def add_texts(frame: "pd.DataFrame", key: str, texts: Texts, rules: TextRules, tally: Tally) -> "pd.DataFrame":
    """The rows with their texts and sections; those without a text are left out, unless they are to be kept.

    Args:
        frame: one image or report a row.
        key: column with the names of the reports.
        texts: of the reports.
        rules: as they were gathered by.
        tally: gets the counts.
    """
    frame = frame.assign(**{TEXT: frame[key].map(texts.texts)})
    missing = frame[TEXT].isna()
    compared = frame[key].isin(texts.only_compared)
    sections = " or ".join(rules.wanted)
    fate = KEPT if rules.keep_empty else LEFT_OUT
    lacks = [("a report", missing), (f"a section {sections}", (frame[TEXT] == "") & ~compared)]
    if rules.strip_comparisons:
        lacks.append(("a text besides its comparisons", compared))
    for rule, lacking in lacks:
        names = frame.loc[lacking, key].drop_duplicates()
        tally.add(rule, int(lacking.sum()), f"rows of {len(names)} reports", fate, names)
    frame[TEXT] = frame[TEXT].fillna("")
    for name, column in zip(rules.column_names, texts.columns.values(), strict=True):
        frame[name] = frame[key].map(column).fillna("")
    return frame if rules.keep_empty else frame[frame[TEXT] != ""].reset_index(drop=True)
