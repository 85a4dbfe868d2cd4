"""How much of the true effects of a virtual cohort the demo's generator recovers, over several trainings of it."""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medloom.core.files import read_json
from medloom.evaluation.effects.recovery import FRACTION, MAPS, OUTSIDE, SIGNS, SLOPE
from medloom.evaluation.report.metrics import with_interval
from medloom.recipes import demo
from medloom.recipes.commands import run_command

# Twice the steps need less decay; errors of the regions' means bring effects nearer to their full size.
CHANGED = {"loop.weight_decay": 0.3}
FIGURES = (FRACTION, SLOPE, SIGNS, MAPS, OUTSIDE)
Figures = Mapping[tuple[str, str], Mapping[str, Any]]


def main(words: list[str]) -> None:
    """Train on one cohort with each seed, ask the same held-out patients, and print what was recovered."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/effect_recovery"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--patients", type=int, default=12000)
    parser.add_argument("--steps", type=int, default=3300)
    parser.add_argument("--rows", type=int, default=100)
    options = parser.parse_args(words)
    config = demo.Config(out=options.out, patients=options.patients, steps=options.steps, rows=options.rows)
    cohort = demo.make_cohort(config, options.out / "cohort")
    seen = [_one(replace(config, seed=seed), cohort) for seed in range(options.seeds)]
    print("\n".join(_table(seen)))


def _one(config: demo.Config, cohort: Path) -> Figures:
    """Figures of one training by attribute and name."""
    out = config.out / f"seed-{config.seed}"
    out.mkdir(parents=True, exist_ok=True)
    model = demo.train(config, cohort, out / "run", config.out / "cache", CHANGED)
    answers = demo.ask(config, cohort, model, out / "whatif")
    report = run_command("evaluate whatif", data=answers, truth=cohort, out=out / "report")
    scores = read_json(report / "scores.json")
    placebo = {("placebo", str(number)): v for number, v in enumerate(scores["verdicts"]) if v["attribute"] == "coffee"}
    return {(figure["subset"], figure["name"]): figure for figure in scores["metrics"]} | placebo


def _table(seen: Sequence[Figures]) -> list[str]:
    """Each seed's value with its interval over patients, and the mean over seeds with its deviation."""
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for figures in seen:
        for key, figure in figures.items():
            if key[1] in FIGURES or key[0] == "placebo":
                rows[key].append(figure)
    seeds = " | ".join(f"seed {number}" for number in range(len(seen)))
    lines = [f"| effect of | figure | mean (deviation) over seeds | {seeds} |", "|---" * (3 + len(seen)) + "|"]
    for (attribute, metric), own in rows.items():
        values = [figure["value"] for figure in own]
        cells = [with_interval(figure["value"], figure["low"], figure["high"]) for figure in own]
        name = metric if attribute != "placebo" else "mean effect, HU"
        spread = np.std(values, ddof=1) if len(values) > 1 else float("nan")
        lines.append(f"| {attribute} | {name} | {np.mean(values):.3f} ({spread:.3f}) | {' | '.join(cells)} |")
    return lines
