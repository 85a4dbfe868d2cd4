"""`medloom data phantom`: a virtual cohort whose anatomy and disease come from a known causal model."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import yaml

from medloom.core.errors import UserError
from medloom.core.files import write_text
from medloom.core.output_folder import output_folder
from medloom.core.progress import say
from medloom.data.prompts import find_template, read_template, template_values
from medloom.phantom.causal import observed_columns
from medloom.phantom.cohort import MARKER, mark_cohort, write_cohort
from medloom.phantom.cohort_spec import CohortSpec

TEMPLATE = "template.yaml"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Make a cohort of virtual patients: CT in HU, masks, labels, reports, a clinical table, and the truth.

    Attributes:
        out: folder for images/, masks/, labels/, train.csv, test.csv, truth.csv and cohort.json.
        patients: how many.
        dims: 2 for one axial slice a visit, 3 for volumes.
        size: pixels of each axis.
        modalities: images of each visit: CT, X-ray (a frontal projection of the erect patient; --dims 2), or both.
        visits: of each patient; disease grows, clears or stays in between.
        retests: take the first visit twice, with nothing changed but position, inspiration and noise.
        hide: columns that the table does not show, as a confounder that nobody measured.
        complete: leave no cell of the table missing.
        test: share of the patients in test.csv.
        validation: share of the patients in the split "validation" of train.csv.
        template: how the table is worded in the column Text: a ready template's name, or a file.
        amplify: factor on what smoking does to the lung; 1 is what the literature says, a few HU, which only a long
            training can tell.
        seed: of the cohort; the same seed gives the same files.
        workers: processes; 0 takes one for each core.
    """

    common: ClassVar[tuple[str, ...]] = (
        "patients",
        "dims",
        "size",
        "modalities",
        "visits",
        "test",
        "validation",
        "template",
        "seed",
        "workers",
    )
    example: ClassVar[str] = "medloom data phantom --patients 2000 --size 64 --out cohort/"

    out: Path
    patients: int = 2000
    dims: int = 2
    size: int = 64
    modalities: tuple[str, ...] = ("CT",)
    visits: int = 1
    retests: bool = False
    hide: tuple[str, ...] = ()
    complete: bool = False
    test: float = 0.2
    validation: float = 0.05
    template: str = "phantom"
    amplify: float = 1.0
    seed: int = 0
    workers: int = 0


def run(config: Config) -> Path:
    """Make the cohort; returns its folder. The same command again resumes.

    Raises:
        UserError: an option out of range, a column that the table does not have, or --out that holds something else.
    """
    if config.workers < 0:
        raise UserError(f"--workers {config.workers}: give 0 for one a core, or more.")
    spec = CohortSpec(**{entry.name: getattr(config, entry.name) for entry in fields(CohortSpec)})
    wording = find_template(config.template)
    template = read_template(wording)
    template.check_columns(observed_columns(), "the cohort's table")
    with output_folder(config.out, MARKER) as out:
        # The template is kept next to the manifests, where what-if finds it, less the columns that the table hides.
        values = template_values(wording)
        values["columns"] = {name: column for name, column in values["columns"].items() if name not in config.hide}
        if template.bounds:
            values["bounds"] = [bound.text for bound in template.bounds if not bound.columns & set(config.hide)]
        for column in values["columns"].values():
            if "parents" in column:
                named = [column["parents"]] if isinstance(column["parents"], str) else column["parents"]
                column["parents"] = [parent for parent in named if parent not in config.hide]
            if "follows" in column:
                column["follows"] = [rule for rule in column["follows"] if not set(rule["when"]) & set(config.hide)]
        mark_cohort(out, spec)
        write_text(out / TEMPLATE, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        write_cohort(out, spec, read_template(out / TEMPLATE).render, config.workers or os.cpu_count() or 1)
        say(f"{config.patients} patients in {out}: train.csv and test.csv, and in truth.csv what they truly have")
        return out
