"""The page of a what-if."""

import numpy as np

from medloom.core.plots import flat
from medloom.core.sheets import Sheet
from medloom.core.spec import HU
from medloom.core.tile_texts import MARK
from medloom.core.tiles import COLOURS_NOTE, SHOWN_QUANTILE, ColourScale, Tile, TileColumn, sides_note
from medloom.data.prompts.support import EXTRAPOLATION_NOTE
from medloom.evaluation.effects import recovery
from medloom.evaluation.effects.measure import EffectExample, Effects
from medloom.evaluation.effects.observed import OBSERVED
from medloom.evaluation.effects.regions import NOISE, SHIFT, shift_table
from medloom.evaluation.report.plots import Panel, draw
from medloom.evaluation.report.report import Report, embedded, page

WINDOW = (-1000.0, 300.0)  # HU


def whatif_page(effects: Effects, report: Report) -> str:
    """The page as HTML.

    Args:
        effects: what was measured, with examples for pictures.
        report: all metrics, verdicts and notes.
    """
    arms = [metric for metric in report.metrics if metric.name in (recovery.EFFECT, recovery.BEYOND)]
    labels = [f"{arm.subset}{', extrapolation' * (arm.name == recovery.BEYOND)}" for arm in arms]
    in_tables = {SHIFT, NOISE, OBSERVED}
    return page(
        "whatif.html",
        effects=effects,
        report=report,
        known=effects.known,
        arms=arms,
        observed=[metric for metric in report.metrics if metric.name == OBSERVED],
        regions=shift_table(report.metrics),
        by_attribute=[(name, [m for m in report.metrics if m.subset == name]) for name in effects.attributes],
        measured={name: text for name, text in report.meanings(recovery.MEANINGS).items() if name not in in_tables},
        plot=embedded(draw([Panel(recovery.EFFECT, list(zip(labels, arms, strict=True)))])),
        pictures=[(name, embedded(effect_sheet(effects, name).png())) for name in effects.arms],
    )


def effect_sheet(effects: Effects, name: str) -> Sheet:
    """For some rows of an arm: both generated images, their difference, and the true difference in the same colours."""
    examples = [example for example in effects.examples if example.arm == name]
    scale = _scale(effects, name)
    titles = ["generated, as recorded", f"generated, {name}", "difference", "true difference"]
    rows, windows = [], dict[str, None]()
    for example in examples:
        reference = example.difference if example.true is None else example.true
        # Of a volume the axial slice that changes most.
        level = int(np.abs(reference).sum(axis=(0, 1)).argmax()) if reference.ndim == 3 else None
        low, high = _window(effects, example)
        windows[f"{example.modality} {low:g} to {high:g} {effects.unit}".strip()] = None
        tiles = [
            Tile(flat((values[None] - low) / (high - low) * 2 - 1, level), sides=example.sides)
            for values in (example.factual, example.other)
        ]
        maps = [example.difference] if example.true is None else [example.difference, example.true]
        tiles += [Tile(flat(values[None], level)[0], sides=example.sides, scale=scale) for values in maps]
        rows.append(tiles)
    columns = [
        TileColumn(title, tiles, joined=place > 0)
        for place, (title, tiles) in enumerate(zip(titles, zip(*rows, strict=True), strict=False))
    ]
    notes = [f"Black to white: {'; '.join(windows)}.", COLOURS_NOTE, *sides_note(columns[0].tiles)]
    count = sum(row.arm == name for row in effects.rows)
    notes += [f"{len(examples)} of {count} rows."] * (len(examples) < count)
    notes += [EXTRAPOLATION_NOTE] * any(example.beyond for example in examples)
    labels = [f"row {one.number}\n{_seeds(effects)}{', extrapolation' * one.beyond}" for one in examples]
    return Sheet(f"{MARK}: {name}", columns, labels, notes)


def _seeds(effects: Effects) -> str:
    return "one seed" if effects.seeds == 1 else f"mean of {effects.seeds} seeds"


def _scale(effects: Effects, name: str) -> ColourScale:
    """The truth sets the colours if it is known and not zero: noise must not look like an effect."""
    count = sum(row.arm == name for row in effects.rows)
    rows = f"all {count} rows" if count > 1 else "the row"
    for kind in ("true", "generated"):
        reach = effects.sizes[name, kind].value(SHOWN_QUANTILE) if (name, kind) in effects.sizes else 0.0
        if reach:
            why = "; truly nothing changes" if kind == "generated" and (name, "true") in effects.sizes else ""
            return ColourScale(reach, effects.unit, f"99th percentile of |{kind} difference|, {rows}{why}")
    return ColourScale(1.0, effects.unit, f"no difference in {rows}")


def _window(effects: Effects, example: EffectExample) -> tuple[float, float]:
    """What is black and what is white: the model's window, if it is known."""
    spec = effects.regions.spec
    if spec is not None and example.modality in spec.intensity:
        intensity = spec.of(example.modality)
        low = intensity.low if intensity.kind == "window" else 0.0
        return low, low + intensity.span
    if effects.unit == HU:
        return WINDOW
    values = np.stack([example.factual, example.other])
    low = float(values.min())
    return low, max(float(values.max()), low + 1e-6)
