"""Whether `--gate release` refuses sets that must not be released, and passes fresh real images.

Patients of a manifest are dealt into training, held-out and fresh images. Bad sets are made of them, one after another,
and each is evaluated. A good set is the fresh images themselves, under several deals. The table is kept as a CSV file,
from which the command resumes. Ends with status 1 if a bad set passes or more than a tenth of the good sets do not.
"""

import argparse
import csv
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.spoiled import BAD, FRESH, LABEL, MODALITY, PATH, PATIENT, Build, Dealt
from medloom.core.config import configure
from medloom.core.errors import GateError, UserError
from medloom.core.seeds import numpy_generator
from medloom.data.manifest import read_manifest
from medloom.recipes import evaluate_images
from medloom.recipes.commands import run_command

GOOD, VOLUMES = "fresh", "copied volumes"
KINDS = ("bad", "good")
# Fractions of the patients that are trained on, held out and fresh.
DEALS = {
    "thirds": (1 / 3, 1 / 3, 1 / 3),
    "half trained on": (1 / 2, 1 / 4, 1 / 4),
    "a fifth trained on": (0.2, 0.4, 0.4),
}
# Everything that the gate requires, without a classifier that is trained on the synthetic set.
ONLY = ("fidelity", "orientation", "alignment", "copies")
COLUMNS = ("kind", "set", "deal", "seed", "images", "status", "reasons", "seconds")
REASONS = 2
VOLUME_NOISE = 10  # HU
MOST_GOOD_REFUSED = 0.1
PASSED, REFUSED, NOT_MEASURED = 0, 3, 2


@dataclass(frozen=True)
class Case:
    """A set to evaluate.

    Attributes:
        kind: bad or good.
        name: of the set.
        build: makes it of the parts.
        deal: name of a row of DEALS.
        seed: of the deal, the set and the evaluation.
        most: images of the held-out and of the fresh part, about; None for all.
    """

    kind: str
    name: str
    build: Build
    deal: str
    seed: int
    most: int | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What the CSV file knows it by."""
        return (self.kind, self.name, self.deal, str(self.seed))


def main(words: list[str]) -> int:
    """Evaluate what the CSV file does not have yet; print its table, and whether the gate held."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="manifest of real images, 8-bit pictures")
    parser.add_argument("--label", required=True, help="column of the classes, e.g. label or modality")
    parser.add_argument("--images-are-patients", action="store_true")
    parser.add_argument("--least", type=int, default=1, help="images that a class has at least")
    parser.add_argument("--seed", type=int, default=0, help="of the bad sets, and the first of the good ones")
    parser.add_argument("--good", type=int, default=5, help="seeds of good sets; each gives one for each deal")
    parser.add_argument("--deals", nargs="*", default=list(DEALS), choices=list(DEALS), help="of the good sets")
    parser.add_argument("--most", type=int, nargs="*", default=(), help="sizes of further, smaller good sets")
    parser.add_argument("--sets", nargs="*", choices=[*BAD, VOLUMES, GOOD], help="default: all")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--volume", type=int, default=32, help="voxels a side of virtual CT volumes")
    parser.add_argument("--patients", type=int, default=150, help="of virtual CT volumes")
    parser.add_argument("--steps", type=int, default=200, help="of the judging networks")
    parser.add_argument("--allow-inconclusive", nargs="*", default=(), help="as of medloom evaluate images")
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / "sets.csv"
    known = {tuple(row[column] for column in COLUMNS[:4]) for row in _rows(table)}
    cases = _cases(options)
    for case in cases:
        if case.key not in known:
            _append(table, {**dict(zip(COLUMNS, case.key, strict=False)), **_evaluated(case, options)})
    keys = {case.key for case in cases}
    rows = [row for row in _rows(table) if tuple(row[column] for column in COLUMNS[:4]) in keys]
    print("| set | images | status | reasons |\n|---|---|---|---|")
    for row in rows:
        name = row["set"] if row["kind"] == "bad" else f"{row['set']}, {row['deal']}, seed {row['seed']}"
        print(f"| {name} | {row['images']} | {row['status']} | {row['reasons'].replace('|', ',')} |")
    bad, good = ([int(row["status"]) for row in rows if row["kind"] == kind] for kind in KINDS)
    passed, refused = bad.count(PASSED), len(good) - good.count(PASSED)
    print(f"\n{passed} of {len(bad)} bad sets pass, {refused} of {len(good)} good sets do not.")
    return int(passed > 0 or refused > MOST_GOOD_REFUSED * len(good))


def _cases(options: argparse.Namespace) -> list[Case]:
    chosen = options.sets or [*BAD, VOLUMES, GOOD]
    first = next(iter(DEALS))
    bad = {**BAD, VOLUMES: _copied_volumes}
    cases = [Case("bad", name, bad[name], first, options.seed) for name in chosen if name in bad]
    seeds = range(options.seed, options.seed + options.good) if GOOD in chosen else ()
    cases += [Case("good", GOOD, FRESH, deal, seed) for deal in options.deals for seed in seeds]
    return cases + [
        Case("good", f"{GOOD}, {most} images", FRESH, first, seed, most) for seed in seeds for most in options.most
    ]


def _evaluated(case: Case, options: argparse.Namespace) -> dict[str, object]:
    """The rest of the row of a set."""
    started = time.perf_counter()
    own = options.out / f"{case.deal}-{case.seed}".replace(" ", "-")
    axes = 1
    if case.name == VOLUMES:
        own, axes = options.out / f"volumes-{case.seed}", 3
        table = _volumes(own, options, case.seed)
    else:
        table = _table(options)
    dealt = _dealt(table, case, own)
    slug = case.name.replace(" ", "-").replace("%", "percent")
    real = "real" if case.most is None else f"real-{case.most}"
    synthetic = case.build(dealt, case.name)
    for name, rows in (("train", dealt.train), (real, dealt.real), (slug, synthetic)):
        rows.to_csv(own / f"{name}.csv", index=False)
    config = configure(
        evaluate_images.Config,
        real=own / f"{real}.csv",
        train=own / "train.csv",
        synthetic=(own / f"{slug}.csv",),
        out=own / f"report-{slug}",
        cache=own / "cache",
        label=MODALITY if options.label == MODALITY and axes == 1 else LABEL,
        only=ONLY,
        gate=Path("release"),
        allow_inconclusive=options.allow_inconclusive,
        steps=options.steps,
        seed=case.seed,
        images_are_patients=PATIENT not in dealt.train,
        image_size=[options.volume if axes == 3 else options.size] * axes,
    )
    status, reasons = PASSED, ""
    try:
        evaluate_images.run(config)
    except GateError as error:
        status, reasons = REFUSED, _reasons(str(error).splitlines()[1:])
    except UserError as error:
        status, reasons = NOT_MEASURED, str(error)
    print(f"{case.kind}: {case.name}: {status}: {reasons}", flush=True)
    seconds = round(time.perf_counter() - started)
    return {"images": len(synthetic), "status": status, "reasons": reasons, "seconds": seconds}


def _reasons(lines: list[str]) -> str:
    """The first rule of each of the first metrics that are not met, without reference and remark."""
    first: dict[str, str] = {}
    for line in lines:
        first.setdefault(line.partition(": ")[2].partition(" of ")[0], line.partition(", reference")[0])
    return "; ".join(list(first.values())[:REASONS])


def _table(options: argparse.Namespace) -> pd.DataFrame:
    """The images of classes that are large enough: path, modality and class, and the patient if it is known."""
    manifest = read_manifest(options.data, need=("path",), images_are_patients=options.images_are_patients)
    table = manifest.frame.assign(**{LABEL: manifest.frame[options.label]})
    patient = [] if options.images_are_patients else [PATIENT]
    rows = table[table.groupby(LABEL)[PATH].transform("size") >= options.least]
    return rows[[PATH, *patient, *dict.fromkeys((MODALITY, LABEL))]].astype(str)


def _dealt(table: pd.DataFrame, case: Case, folder: Path) -> Dealt:
    """Deal the patients into three parts."""
    patients = table[PATIENT if PATIENT in table else PATH]
    order = numpy_generator("deal", case.seed).permutation(sorted(set(patients)))
    ends = np.rint(np.cumsum(DEALS[case.deal]) * len(order)).astype(int)
    parts = [table[patients.isin(part)] for part in np.split(order, ends[:-1])]
    if case.most is not None:
        parts[1:] = [_fewer(part, case.most, case.seed) for part in parts[1:]]
    folder.mkdir(parents=True, exist_ok=True)
    return Dealt(parts[0], parts[1], parts[2], folder, case.seed)


def _fewer(rows: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """The images of as many patients as give the number that is wanted."""
    patients = rows[PATIENT if PATIENT in rows else PATH]
    order = numpy_generator("fewer", seed).permutation(sorted(set(patients)))
    counts = np.cumsum(patients.value_counts()[order].to_numpy())
    return rows[patients.isin(order[: int(np.searchsorted(counts, most)) + 1])]


def _volumes(folder: Path, options: argparse.Namespace, seed: int) -> pd.DataFrame:
    """CT volumes of virtual patients; the class is their diagnosis."""
    cohort = folder / "cohort"
    if not cohort.is_dir():
        size = {"dims": 3, "size": options.volume}
        run_command("data phantom", out=cohort, patients=options.patients, seed=seed, test=0.1, workers=1, **size)
    tables = [read_manifest(cohort / f"{name}.csv", need=("path",)).frame for name in ("train", "test")]
    table = pd.concat(tables)
    return table.assign(**{LABEL: table["diagnosis"]})[[PATH, PATIENT, MODALITY, LABEL]].astype(str)


def _copied_volumes(dealt: Dealt, name: str) -> pd.DataFrame:
    """Every training volume with a little noise."""
    import nibabel

    folder = dealt.folder / "copied"
    folder.mkdir(exist_ok=True)
    paths = []
    for number, path in enumerate(dealt.train[PATH]):
        volume = nibabel.load(path)
        noise = numpy_generator(name, dealt.seed, number).normal(0, VOLUME_NOISE, volume.shape)
        values = np.rint(volume.get_fdata() + noise).astype(np.int16)
        paths.append(str(folder / f"{number}.nii.gz"))
        nibabel.save(nibabel.Nifti1Image(values, volume.affine, volume.header), paths[-1])
    return dealt.train.assign(**{PATH: paths})


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _append(table: Path, row: dict[str, object]) -> None:
    new = not table.is_file()
    with table.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)
