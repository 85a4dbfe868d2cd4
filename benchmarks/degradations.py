"""Whether each way of spoiling a set of images is seen by the figure that is meant to see it.

Patients of a manifest are split in three: training images, held-out images, and images that are called synthetic: as
they are, blurred, of one class only, of few patients, with the labels of other classes, and half of them replaced by
training images.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from medloom.core.config import configure
from medloom.evaluation.images.fidelity import LEAST
from medloom.recipes import evaluate_images

BLUR = 0.02  # of the shorter side
PATH, LABEL = "path", "label"
WORSE = "worse"


@dataclass(frozen=True)
class Third:
    """The parts of a manifest.

    Attributes:
        train: rows of the first third of the patients.
        synthetic: rows that are called synthetic.
        folder: for changed images.
        rng: of all draws.
    """

    train: pd.DataFrame
    synthetic: pd.DataFrame
    folder: Path
    rng: np.random.Generator


def _untouched(parts: Third) -> pd.DataFrame:
    return parts.synthetic


def _blurred(parts: Third) -> pd.DataFrame:
    parts.folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, path in enumerate(parts.synthetic[PATH]):
        with Image.open(path) as picture:
            by = BLUR * min(picture.size)
            names.append(str(parts.folder / f"{number}.png"))
            picture.filter(ImageFilter.GaussianBlur(by)).save(names[-1])
    return parts.synthetic.assign(path=names)


def _one_class(parts: Third) -> pd.DataFrame:
    rows: pd.DataFrame = parts.synthetic[parts.synthetic[LABEL] == parts.synthetic[LABEL].mode()[0]]
    return rows


def _few(parts: Third) -> pd.DataFrame:
    """As many images, of a tenth of the patients."""
    patients = sorted(set(parts.synthetic["patient_id"]))
    kept = parts.rng.choice(patients, max(2, len(patients) // 10), replace=False)
    rows = parts.synthetic[parts.synthetic["patient_id"].isin(kept)]
    repeated = pd.concat([rows] * -(-len(parts.synthetic) // len(rows))).head(len(parts.synthetic))
    return repeated.assign(path=_resaved(parts.folder, list(repeated[PATH])))


def _swapped(parts: Third) -> pd.DataFrame:
    classes = sorted(set(parts.synthetic[LABEL]))
    others = [parts.rng.choice([name for name in classes if name != own]) for own in parts.synthetic[LABEL]]
    return parts.synthetic.assign(label=others)


def _half_copied(parts: Third) -> pd.DataFrame:
    """Copies with the patients of the rows that they replace, as a generator's output names no training patient."""
    count = min(len(parts.synthetic) // 2, len(parts.train))
    made = parts.synthetic.copy().reset_index(drop=True)
    rows = parts.rng.choice(len(parts.train), count, replace=False)
    made.loc[: count - 1, PATH] = _resaved(parts.folder, list(parts.train[PATH].iloc[rows]))
    made.loc[: count - 1, LABEL] = parts.train[LABEL].iloc[rows].to_numpy()
    return made


def _resaved(folder: Path, paths: list[str]) -> list[str]:
    """The same pixels in other files, since files that two manifests share are refused."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [str(folder / f"copy-{number}.png") for number in range(len(paths))]
    for path, name in zip(paths, names, strict=True):
        with Image.open(path) as picture:
            picture.save(name)
    return names


# What is done, and the figures that are meant to see it.
VERSIONS: dict[str, tuple[Callable[[Third], pd.DataFrame], tuple[str, ...]]] = {
    "untouched": (_untouched, ()),
    "blurred": (_blurred, ("fine detail ratio", "Frechet distance", "kernel distance")),
    "one class only": (_one_class, ("recall", "coverage", "Vendi score")),
    "a tenth of the patients": (_few, ("recall", "coverage", "Vendi score")),
    "labels swapped": (_swapped, ("recognition",)),
    "half copied": (_half_copied, ("excess of copies",)),
}


def main(words: list[str]) -> None:
    """Split, spoil, evaluate, and print what each meant figure says; of the untouched, every figure that is worse."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--label", required=True, help="column of the classes")
    parser.add_argument("--modality", help="only images of it")
    parser.add_argument("--least", type=int, default=15, help="images that a class has at least")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", nargs="+", default=["classifier", "local"])
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    train, real, synthetic = _thirds(_table(options), np.random.default_rng(options.seed))
    for name, rows in (("train", train), ("real", real)):
        rows.to_csv(options.out / f"{name}.csv", index=False)
    print("| version | figure | value (95 % interval) | reference | reading |\n|---|---|---|---|---|")
    for name, (spoil, meant) in VERSIONS.items():
        slug = name.replace(" ", "-")
        parts = Third(train, synthetic, options.out / slug, np.random.default_rng(options.seed + 1))
        spoiled = spoil(parts)
        if len(spoiled) < LEAST:
            print(f"| {name} | {len(spoiled)} images, and fidelity needs {LEAST} | | | |", flush=True)
            continue
        spoiled.to_csv(options.out / f"{slug}.csv", index=False)
        print("\n".join(_lines(name, meant, _figures(options, slug))), flush=True)


def _table(options: argparse.Namespace) -> pd.DataFrame:
    """Rows of classes that are large enough, with the path, patient, modality and class of each."""
    table = pd.read_csv(options.data, low_memory=False, dtype=str)
    if options.modality:
        table = table[table["modality"] == options.modality]
    table = table.assign(label=table[options.label])[[PATH, "patient_id", "modality", LABEL]].dropna()
    table[PATH] = [str((options.data.parent / path).resolve()) for path in table[PATH]]
    rows: pd.DataFrame = table[table.groupby(LABEL)[PATH].transform("size") >= options.least]
    return rows


def _thirds(table: pd.DataFrame, rng: np.random.Generator) -> list[pd.DataFrame]:
    patients = np.array(sorted(set(table["patient_id"])))
    return [table[table["patient_id"].isin(part)] for part in np.array_split(rng.permutation(patients), 3)]


def _figures(options: argparse.Namespace, slug: str) -> list[dict[str, Any]]:
    manifests = {name: options.out / f"{name}.csv" for name in ("real", "train")}
    out = options.out / f"report-{slug}"
    config = configure(
        evaluate_images.Config,
        **manifests,
        synthetic=(options.out / f"{slug}.csv",),
        out=out,
        label=LABEL,
        image_size=[options.size],
        features=options.features,
        only=["fidelity", "alignment", "privacy"],
        cache=options.out / "cache",
        seed=options.seed,
    )
    evaluate_images.run(config)
    figures: list[dict[str, Any]] = json.loads((out / "scores.json").read_text())["metrics"]
    return [figure for figure in figures if figure["subset"] == "all"]


def _lines(name: str, meant: tuple[str, ...], figures: list[dict[str, Any]]) -> list[str]:
    """The figures that are meant to see it; where none is, every figure that is worse than its reference."""
    shown = [f for f in figures if (f["name"] in meant if meant else f["reading"].endswith(WORSE))]
    lines = [f"| {name} | {_label(figure)} | {_value(figure)} |" for figure in shown]
    worse = sum(figure["reading"].endswith(WORSE) for figure in figures)
    return [*lines, f"| {name} | all {len(figures)} figures | worse than the reference: {worse} | | |"]


def _label(figure: dict[str, Any]) -> str:
    return f"{figure['name']} ({figure['extractor']})" if figure["extractor"] else str(figure["name"])


def _value(figure: dict[str, Any]) -> str:
    reference = figure["reference"]
    span = "" if reference["low"] is None else f" ({reference['low']:.3g} to {reference['high']:.3g})"
    value = f"{figure['value']:.3g} ({figure['low']:.3g} to {figure['high']:.3g})"
    return f"{value} | {reference['value']:.3g}{span} | {figure['reading']}"
