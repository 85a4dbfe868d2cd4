"""`medloom data journeys`: from a table of studies to triples of prior image, instruction and later image."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

from medloom.core.config import plain
from medloom.core.errors import UserError
from medloom.core.files import (
    hash_content,
    hash_file,
    hash_text,
    is_written,
    make_folder,
    remove_leftovers_of,
    write_json,
)
from medloom.core.limits import check_limits, limited
from medloom.core.lookup import look_up
from medloom.core.options import setting
from medloom.core.output_folder import output_folder
from medloom.core.progress import say
from medloom.core.spec import HU, RELATIVE
from medloom.core.types import DAYS
from medloom.data.columns import PATH_COLUMNS
from medloom.data.images import read_image, write_derived
from medloom.data.manifest import Manifest, ManifestOptions, load_manifest
from medloom.data.paths import absolute, portable
from medloom.data.tables import write_csv
from medloom.longitudinal.journeys import Journeys, Rules, StudyPair, choose_pairs
from medloom.longitudinal.registration import (
    TRANSFORMS,
    ImagePair,
    RegistrationOptions,
    failures,
    register_pairs,
    registration_sheet,
)
from medloom.report_text.chat_server import chat_server
from medloom.report_text.language_model import RequestLimits, progression_texts
from medloom.report_text.progression import NO_CHANGE, Progression, inverse_of, progression_of
from medloom.report_text.progression import PROGRESSIONS as RULES

PROGRESSIONS = ("rules", "impression", "text", "llm", "none")
DESCRIPTION = "journeys.json"
SHEET_PAIRS = 12
# Columns of the triples besides those of the later image's row.
FURTHER = ("prior", "registered_prior", "instruction", "reverse_instruction", DAYS, "score")


@dataclass(frozen=True, kw_only=True)
class Config(ManifestOptions):
    """Find pairs of a patient's images, register them, and word what changed.

    Attributes:
        data: manifest of studies with path, patient_id and time; Text holds the reports.
        out: manifest of the triples, CSV; registered images and pictures go to a folder of its name next to it.
        view: views that both images have (default: any, but the same).
        mixed_views: pair images of different views as well.
        min_days: days that lie at least between the two.
        max_days: days that lie at most between the two.
        pairs: consecutive (each image with the next one), or all.
        both_ways: with --progression rules, pairs of the split train go the other way round as well: what resolves in
            one row appears in the other, and an editor learns both, however rare one of them is.
        study_column: column of the study; one image per study is taken (default: the images of a day are one study).
        register: off, rigid, similarity or affine: how the prior image is aligned to the later one for training.
        min_score: least score of a registration, the correlation of the images where they overlap; pairs below are left
            out.
        progression: what the instruction says: rules (findings of the two reports compared), impression (of the later
            report), text (the later row's whole text), llm (a language model asked what changed), or none.
        llm_url: address of a server that speaks OpenAI's protocol (default: MEDLOOM_LLM_URL); the key is read from
            MEDLOOM_LLM_KEY.
        llm_model: the server's name of the model (default: MEDLOOM_LLM_MODEL).
        llm_requests: requests at most, retries included.
        llm_tokens: tokens at most, of questions and answers.
        llm_per_minute: requests a minute at most.
        reports_may_leave: you acknowledge that reports are sent to another machine than this one.
        workers: processes that register; 0 takes one for each core.
    """

    common: ClassVar[tuple[str, ...]] = (
        "min_days",
        "max_days",
        "pairs",
        "both_ways",
        "view",
        "mixed_views",
        "study_column",
        "register",
        "progression",
        "skip_bad",
        "columns",
        "workers",
    )
    example: ClassVar[str] = "medloom data journeys studies.csv --max-days 365 --columns text=report --out triples.csv"

    data: Path
    out: Path
    view: tuple[str, ...] = ()
    mixed_views: bool = False
    min_days: float = 0.0
    max_days: float | None = None
    pairs: str = "consecutive"
    both_ways: bool = True
    study_column: str | None = None
    register: str = "similarity"
    min_score: float = limited(0.6, at_least=-1, at_most=1, setting=True)
    progression: str = "rules"
    llm_url: str | None = None
    llm_model: str | None = None
    llm_requests: int | None = setting(None)
    llm_tokens: int | None = setting(None)
    llm_per_minute: float = setting(60.0)
    reports_may_leave: bool = False
    workers: int = 1


def run(config: Config) -> Path:
    """Find the pairs; returns the path of the triples.

    Raises:
        UserError: options out of range, no pair that is left (says which rule took them), or a server that cannot be
            asked.
    """
    look_up(dict.fromkeys(PROGRESSIONS), config.progression, "--progression")
    look_up(TRANSFORMS, config.register, "--register")
    check_limits(config)
    if config.out.suffix != ".csv":
        raise UserError(f"--out {config.out}: name a CSV file, e.g. triples.csv.")
    limits = config.view, config.min_days, config.max_days
    # What a report says of its own prior image is no instruction for the way back.
    both_ways = config.both_ways and config.progression == "rules"
    rules = Rules(*limits, config.pairs, config.mixed_views, config.study_column, both_ways)
    # A prior image without a report is a prior image; the rule of the instruction counts what lacks one.
    manifest = load_manifest(config.data, config, ("path",))
    cells = manifest.frame["text"].tolist() if "text" in manifest.frame else [None] * len(manifest)
    texts = [cell if isinstance(cell, str) and cell.strip() else "" for cell in cells]
    if config.progression != "none" and not any(texts):
        raise UserError(
            f"{config.data}: no row has a text, and --progression {config.progression} needs texts; name"
            " the column with --columns text=NAME, or give --progression none."
        )
    for note in manifest.notes:
        say(note)
    journeys = choose_pairs(manifest, rules, config.skip_bad)

    # The folder next to the triples is marked at once, so that an interrupted run can be continued.
    folder = config.out.with_suffix("")
    if config.out.exists() and not (folder / DESCRIPTION).is_file():
        raise UserError(f"--out {config.out} already exists and was not written by this command; give another name.")
    with output_folder(folder, DESCRIPTION):
        remove_leftovers_of(config.out)
        if not (folder / DESCRIPTION).exists():
            write_json(folder / DESCRIPTION, {"finished": False})

        paths = [Path(path) for path in manifest.frame["path"]]
        hashes = {row: hash_content(paths[row]) for pair in journeys.pairs for row in (pair.before, pair.after)}
        triples = [Triple(pair) for pair in journeys.pairs if hashes[pair.before] != hashes[pair.after]]
        journeys.reject("two different images", len(journeys.pairs) - len(triples), "pairs")
        if config.progression != "none":
            # The words of the later report are the instruction by themselves; what changed needs both. Pairs without
            # them leave here, before any is registered for nothing.
            alone = config.progression in ("impression", "text")
            kept = [one for one in triples if texts[one.pair.after] and (alone or texts[one.pair.before])]
            journeys.reject("reports that say what changed", len(triples) - len(kept), "pairs")
            triples = kept
        if config.register != "off":
            triples = _registered(config, paths, hashes, triples, journeys, folder)
        if config.progression != "none":
            triples = _worded(config, texts, triples, journeys, folder)
        for line in journeys.lines():
            say(line)
        if not triples:
            raise UserError(f"{config.data}: no pair is left; {'; '.join(journeys.lines())}.")
        _write(config, manifest, triples)
        options = {
            name: value for name, value in plain(asdict(config)).items() if name not in ("data", "out", "workers")
        }
        rejected = [{"rule": rule, "left_out": number, "of": what} for rule, number, what in journeys.rejected]
        facts = {"data": hash_file(config.data), "options": options, "rules": rejected, "triples": len(triples)}
        write_json(folder / DESCRIPTION, {"finished": True, **facts})
        patients = {manifest.frame["patient_id"].iloc[triple.pair.after] for triple in triples}
        back = sum(triple.pair.back for triple in triples)
        if back:
            say(f"{back} of {len(triples)} triples go from the later image back to the earlier one (--no-both-ways)")
        elif both_ways:
            lacking = "no column split" if "split" not in manifest.frame else "no row of the split train"
            say(
                f"{config.data} has {lacking}, so pairs go one way; split the studies first (medloom data split), and"
                " those of training patients go both ways."
            )
        say(f"{len(triples)} triples of {len(patients)} patients: {config.out}")
        return config.out

    # What a pair needs for an instruction.


SAID_BY = {
    "rules": "reports that say what changed, or that nothing did",
    "impression": "an impression in the later report",
    "text": "a text of the later image",
    "llm": "an answer of the language model",
}


@dataclass(frozen=True)
class Triple:
    """A pair, and what is added to it.

    Attributes:
        pair: its rows and days.
        registered: file of the prior image on the later one's grid, or None.
        score: of the registration, or None.
        instruction: what changed, or None.
        reverse: what would undo it, where rules say so, or None.
    """

    pair: StudyPair
    registered: Path | None = None
    score: float | None = None
    instruction: str | None = None
    reverse: str | None = None


def _registered(
    config: Config,
    paths: Sequence[Path],
    hashes: Mapping[int, str],
    triples: Sequence[Triple],
    journeys: Journeys,
    folder: Path,
) -> list[Triple]:
    """The pairs that register, their prior images as files on the later ones' grids, in their format."""
    files = [ImagePair(paths[triple.pair.before], paths[triple.pair.after]) for triple in triples]
    options = RegistrationOptions(transform=config.register, min_score=config.min_score)
    results = register_pairs(files, options, folder, config.workers or os.cpu_count() or 1)
    lost = [{"prior": str(pair.prior), "path": str(pair.path), "reason": reason} for pair, reason in failures(results)]
    write_json(folder / "not_registered.json", lost)
    # A picture of some pairs: before, after, later image, checkerboard.
    shown = [result for result in results if result.folder is not None]
    shown = shown[:: max(1, len(shown) // SHEET_PAIRS)][:SHEET_PAIRS]
    if shown:
        images = [(read_image(one.pair.prior), read_image(one.pair.path), one.load()) for one in shown]
        registration_sheet(folder / "registration.png", images)
    make_folder(folder / "registered")
    kept: list[Triple] = []
    for triple, result in zip(triples, results, strict=True):
        if result.passed:
            image = result.load().image
            # Values in HU stay what a DICOM file says that they are; padding has the lowest value already.
            flat = {HU: ".dcm", RELATIVE: ".tiff"}.get(image.unit, ".png")
            suffix = ".nii.gz" if len(image.size) == 3 else flat
            # Named by what it was made from: another image under an old name, or another transform, is another file.
            made_from = hashes[triple.pair.before], hashes[triple.pair.after], config.register
            path = folder / "registered" / f"{hash_text('|'.join(made_from))}{suffix}"
            if not is_written(path):
                write_derived(path, replace(image, padding=None), "registered to a later image of the patient")
            kept.append(replace(triple, registered=path, score=result.score))
    journeys.reject(f"a registration that scores {config.min_score:g} or more", len(triples) - len(kept), "pairs")
    return kept


def _worded(
    config: Config, texts: Sequence[str], triples: Sequence[Triple], journeys: Journeys, folder: Path
) -> list[Triple]:
    """The pairs with their instructions; those without one are left out."""
    pairs = [(texts[triple.pair.before], texts[triple.pair.after]) for triple in triples]
    said: list[str | None]
    undone: list[str | None] = [None] * len(pairs)
    if config.progression == "llm":
        server = chat_server(config.llm_url, config.llm_model, None, config.reports_may_leave)
        limits = RequestLimits(config.llm_requests, config.llm_tokens, config.llm_per_minute)
        answers = progression_texts(pairs, server, folder / "language_model.jsonl", limits)
        if answers.problems:
            number, reason = next(iter(answers.problems.items()))
            unanswered = f"{len(answers.problems)} of {len(pairs)} pairs have no answer"
            say(f"{unanswered} (pair {number + 1}: {reason}); run again.")
        said = list(answers.texts)
    elif config.progression == "text":
        said = [after for _, after in pairs]
    elif config.progression == "rules":
        said, undone = _both_ways(triples, pairs)
        given = [text for text in said if text is not None]
        say(f"{sum(text != NO_CHANGE for text in given)} of {len(given)} instructions name a change")
        if silent := said.count(None):
            say(
                f"{silent} of {len(said)} pairs are left out: their texts say neither what changed nor that nothing"
                " did; if the reports are in another column, name it with --columns text=NAME."
            )
    else:
        said = [_by_rules(RULES[config.progression], before, after) for before, after in pairs]
    rule = f"an instruction by {config.progression} ({SAID_BY[config.progression]})"
    journeys.reject(rule, said.count(None), "pairs")
    return [
        replace(triple, instruction=text, reverse=back)
        for triple, text, back in zip(triples, said, undone, strict=True)
        if text is not None
    ]


def _both_ways(
    triples: Sequence[Triple], pairs: Sequence[tuple[str, str]]
) -> tuple[list[str | None], list[str | None]]:
    """What changed in each pair by the rules, and what would undo it; of a pair that goes back they are exchanged."""
    said: list[str | None] = []
    undone: list[str | None] = []
    for triple, (before, after) in zip(triples, pairs, strict=True):
        forward = progression_of(*((after, before) if triple.pair.back else (before, after)))
        texts = forward.text or None, inverse_of(forward).text or None
        said.append(texts[triple.pair.back])
        undone.append(texts[not triple.pair.back])
    return said, undone


def _by_rules(rule: Callable[[str, str], Progression], before: str, after: str) -> str | None:
    """An instruction, or None where the report has no section that says it."""
    try:
        return rule(before, after).text
    except UserError:
        # Counted by the caller, which says how many pairs are left out.
        return None


def _write(config: Config, manifest: Manifest, triples: Sequence[Triple]) -> None:
    """The triples as a manifest: the later image's row, and what of the earlier one's differs."""
    root = absolute(config.out).parent
    columns = [name for name in manifest.frame.columns if name not in ("line", *FURTHER)]
    records = manifest.frame.astype(object).where(manifest.frame.notna(), None).to_dict("records")
    earlier = [
        name
        for name in columns
        if name != "path" and any(records[t.pair.before][name] != records[t.pair.after][name] for t in triples)
    ]

    def moved(column: str, cell: object) -> object:
        """A cell; a path relative to the triples."""
        if column not in PATH_COLUMNS or cell is None:
            return cell
        return portable(str(absolute(str(cell))), root)

    rows = []
    for triple in triples:
        before, after = records[triple.pair.before], records[triple.pair.after]
        own = [moved(name, after[name]) for name in columns]
        own += [moved("path", before["path"]), moved("path", triple.registered)]
        own += [triple.instruction, triple.reverse, triple.pair.days, triple.score]
        rows.append([*own, *(moved(name, before[name]) for name in earlier)])
    write_csv(config.out, [*columns, *FURTHER, *(f"prior_{name}" for name in earlier)], rows)
