"""`medloom compare`: two models on the same held-out conditions and seeds, modality by modality."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from medloom.core.errors import UserError
from medloom.data.options import ManifestOptions

if TYPE_CHECKING:
    from medloom.data.manifest import Manifest

Key = tuple[str, str, str]
SIDES = ("before", "after")


@dataclass(frozen=True, kw_only=True)
class Config(ManifestOptions):
    """Compare two models, e.g. before and after a new modality was added.

    Attributes:
        before: run folder of the first model.
        after: run folder of the second model.
        data: manifest of held-out images with their conditions, which neither model was trained on.
        train: manifest of the training images, for the classifier that judges (else half of --data is used for it).
        out: folder for both sets of images, both reports, and comparison.csv.
        n: images a row.
        seed: of the first image; both models get the same seeds.
        steps: steps of the sampler (default: 20 for diffusion; a GAN has no sampler).
        guidance: how strongly the condition is followed (default: 2 for diffusion; a GAN has none).
        label: as in evaluate: column of the class that a classifier tells, modality, or auto.
        features: as in evaluate: extractors of features.
        image_size: as in evaluate: pixels of the judging classifier's images.
        device: auto, cpu or cuda.
    """

    common: ClassVar[tuple[str, ...]] = (
        "train",
        "n",
        "seed",
        "steps",
        "guidance",
        "label",
        "features",
        "columns",
        "device",
    )
    example: ClassVar[str] = "medloom compare --before runs/mm --after runs/mm2 --data test.csv --out compared/"

    before: Path
    after: Path
    data: Path
    out: Path
    train: Path | None = None
    n: int = 1
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    label: str = "auto"
    features: tuple[str, ...] = ("classifier",)
    image_size: tuple[int, ...] = (64,)
    device: str = "auto"


def run(config: Config) -> Path:
    """Generate with both, evaluate both, and join the figures; returns the path of comparison.csv.

    Raises:
        UserError: a model or manifest that cannot be used, or no modality that both models know.
    """
    from medloom.core.files import claim_output, read_json, write_json
    from medloom.core.progress import say
    from medloom.data.options import load_manifest
    from medloom.data.tables import write_csv

    manifest = load_manifest(config.data, config)
    common = _common_modalities(config, manifest)
    out = claim_output(config.out, "comparison.json")
    write_json(out / "comparison.json", {"before": str(config.before), "after": str(config.after), "on": common})
    shared = manifest.select(modality in common for modality in manifest.frame["modality"])
    shared.write(out / "conditions.csv")
    say(f"comparing on {len(shared)} rows of the modalities that both models know: {', '.join(common)}")
    figures: dict[str, dict[Key, dict[str, Any]]] = {}
    for side, model in zip(SIDES, (config.before, config.after), strict=True):
        report = _evaluate(config, side, model, out)
        figures[side] = {_key(figure): figure for figure in read_json(report / "scores.json")["figures"]}
    rows = [_row(key, figures["before"][key], figures["after"][key]) for key in _joined(figures)]
    write_csv(out / "comparison.csv", list(rows[0]), [list(row.values()) for row in rows])
    _print(rows)
    say(f"compared: {out / 'comparison.csv'}")
    return out / "comparison.csv"


def _common_modalities(config: Config, manifest: "Manifest") -> list[str]:
    """The modalities of the data that both models know, with both models' training patients refused."""
    from medloom.core.spec import ImageSpec
    from medloom.generators.registry import FAMILIES
    from medloom.generators.run_folder import open_run

    known: list[set[str]] = []
    for option, model in (("--before", config.before), ("--after", config.after)):
        run = open_run(model, tuple(FAMILIES), option)
        description = run.description()
        known.append(set(ImageSpec.from_dict(description["identity"]["spec"]).intensity))
        for split in run.splits():
            split.refuse_overlap(manifest, str(model))
    common = sorted(known[0] & known[1] & set(manifest.modalities))
    if not common:
        raise UserError(
            f"{config.data} has {', '.join(manifest.modalities)}, of which the two models have none in common"
            f" ({', '.join(sorted(known[0]))} and {', '.join(sorted(known[1]))})."
        )
    return common


def _evaluate(config: Config, side: str, model: Path, out: Path) -> Path:
    from medloom.core.config import configure
    from medloom.recipes import evaluate, generate

    # conditions.csv has standard column names already.
    inherited = {entry.name for entry in fields(ManifestOptions)}
    reading = {name: getattr(config, name) for name in inherited if name != "columns"}
    conditions = out / "conditions.csv"
    synthetic = generate.run(
        configure(
            generate.Config,
            model=model,
            data=conditions,
            out=out / side,
            n=config.n,
            seed=config.seed,
            steps=config.steps,
            guidance=config.guidance,
            device=config.device,
            **reading,
        )
    )
    return evaluate.run(
        configure(
            evaluate.Config,
            real=conditions,
            synthetic=synthetic,
            train=config.train,
            model=model,
            out=out / f"{side}-report",
            label=config.label,
            features=config.features,
            image_size=config.image_size,
            cache=out / "cache",
            device=config.device,
            **reading,
        )
    )


def _key(figure: Mapping[str, Any]) -> Key:
    return figure["metric"], figure["subset"], figure["extractor"]


def _joined(figures: Mapping[str, Mapping[Key, Any]]) -> list[Key]:
    return [key for key in figures["before"] if key in figures["after"]]


def _row(key: Key, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"metric": key[0], "subset": key[1], "features": key[2], "n": after["n"]}
    for side, figure in zip(SIDES, (before, after), strict=True):
        row |= {side: figure["value"], f"{side}_low": figure["low"], f"{side}_high": figure["high"]}
    reference = after["reference"]
    return {**row, "reference": reference["value"], "reference_is": reference["what"]}


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "subset", "before", "after", "reference", title="before and after", title_justify="left")
    for row in rows:
        cells = [_interval(row, side) for side in SIDES]
        table.add_row(row["metric"], row["subset"], *cells, f"{row['reference']:.3g}")
    Console(highlight=False).print(table)


def _interval(row: Mapping[str, Any], side: str) -> str:
    low, high = row[f"{side}_low"], row[f"{side}_high"]
    interval = "" if low is None else f" ({low:.3g} to {high:.3g})"
    return f"{row[side]:.3g}{interval}"
