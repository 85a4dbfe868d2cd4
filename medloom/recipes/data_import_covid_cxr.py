"""`medloom data import covid-cxr`: the table of ieee8023/covid-chestxray-dataset becomes a manifest."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.lookup import look_up
from medloom.data.sources.covid_cxr import TEXTS, covid_rows, read_covid
from medloom.data.sources.importing import ImportOptions, check_folder, check_options, finish, paths_of
from medloom.data.sources.tally import Tally, keep_values

FIRST = ("path", "Text", "modality", "view", "patient_id", "time")


@dataclass(frozen=True, kw_only=True)
class Config(ImportOptions):
    """Make a manifest of the COVID-19 image data collection, with its clinical columns and licences.

    Attributes:
        root: folder of metadata.csv and the images' folders.
        modality: modalities that are taken.
        view: views that are taken: PA, AP, AP Supine, L, ... (default: all).
        text: notes (clinical_notes become Text, lines without them are left out) or none (no Text, for
            `medloom data prompts`).
    """

    common: ClassVar[tuple[str, ...]] = ("out", "modality", "view", "text", "skip_bad", "preview")
    example: ClassVar[str] = "medloom data import covid-cxr covid-chestxray-dataset/ --out covid.csv"

    modality: tuple[str, ...] = ("X-ray",)
    view: tuple[str, ...] = ()
    text: str = "notes"


def run(config: Config) -> Path | None:
    """Import; returns the manifest's path, or None after a preview.

    Raises:
        UserError: no table, one that is damaged, an unknown modality or view, images that are missing and not to be
            skipped, or no row that is left.
    """

    check_options(config)
    check_folder(config)
    look_up(dict.fromkeys(TEXTS), config.text, "--text")
    tally = Tally()
    frame = keep_values(read_covid(config.root, config.skip_bad, tally), "modality", config.modality, tally)
    frame = keep_values(frame, "view", config.view, tally)
    twice = frame["file"].duplicated()
    tally.add("one line an image", int(twice.sum()), "lines", names=frame.loc[twice, "file"])
    frame = frame[~twice].reset_index(drop=True)
    there = [(config.root / file).is_file() for file in frame["file"]]
    missing = [file for file, is_there in zip(frame["file"], there, strict=True) if not is_there]
    tally.skip_or_refuse(config.skip_bad, str(config.root), "a file", missing, len(frame))
    rows = covid_rows(frame[there].reset_index(drop=True), config.text, tally)
    rows = rows.assign(path=paths_of(config, config.root, rows["file"])).drop(columns="file")
    first = [name for name in FIRST if name in rows]
    return finish(config, rows, [*first, *(name for name in rows.columns if name not in first)], tally)
