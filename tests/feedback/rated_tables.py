"""Tables of ratings by simulated raters."""

import csv
from pathlib import Path

import numpy as np

COLUMNS = (
    "rating_id", "rater", "session", "round", "item", "path", "text", "modality", "patient_id", "rubric", "realism",
    "match", "level", "confidence", "flags", "comment", "seconds", "time", "repeat", "source",
)  # fmt: skip
RATERS = ("anna", "ben", "chris")


def ratings(items=40, real=10, repeats=6, raters=RATERS, seed=0, rounds=1, rubric="quality", lead=1.0, strict=0.5):
    """Rows of an export: items of a latent quality, raters of their own strictness, real images that look better.

    Args:
        items: number of images.
        real: how many of them are real.
        repeats: hidden repeats per rater.
        raters: their names.
        seed: of all draws.
        rounds: of rating; later ones have other images.
        rubric: quality or origin.
        lead: how much better real images look.
        strict: standard deviation of raters' strictness.
    """
    rng, rows = np.random.default_rng(seed), []
    for turn in range(1, rounds + 1):
        quality = rng.normal(size=items) + 0.4 * (turn - 1)
        quality[:real] += lead
        match = rng.normal(size=items) + 1
        for rater in raters:
            own = strict * rng.normal()
            order = [*rng.permutation(items), *rng.choice(items, repeats, replace=False)]
            for place, item in enumerate(order):
                realism = 1 + int(np.digitize(quality[item] - own + 0.5 * rng.normal(), (-1.0, 0.8)))
                matched = 1 + int(np.digitize(match[item] - own + 0.5 * rng.normal(), (-1.0, 0.5)))
                level = 1 if realism == 1 else 3 if matched == 3 else 2
                asked = rubric == "quality"
                confidence = 1 + int(np.digitize(own - quality[item] + 0.5 * rng.normal(), (-1.5, -0.5, 0.5, 1.5)))
                rows.append(
                    {
                        "rating_id": f"{turn}-{rater}-{place}",
                        "rater": rater,
                        "session": "1",
                        "round": turn,
                        "item": f"i{item:03d}",
                        "path": f"images/{item}.png",
                        "text": "Small effusion.",
                        "modality": "CT" if item % 3 else "CXR",
                        "patient_id": f"p{item // 2}",
                        "rubric": rubric,
                        "realism": realism if asked else "",
                        "match": matched if asked else "",
                        "level": level if asked else "",
                        "confidence": "" if asked else confidence,
                        "flags": "anatomy artefact" if asked and realism == 1 and item % 2 else "",
                        "comment": "",
                        "seconds": round(float(6 * np.exp(0.4 * rng.normal()) * (1 - 0.4 * place / len(order))), 2),
                        "time": f"2026-11-{turn:02d}T10:{place // 60:02d}:{place % 60:02d}Z",
                        "repeat": int(place >= items),
                        "source": "real" if item < real else "synthetic",
                    }
                )
    return rows


def write_ratings(path: Path, rows) -> Path:
    """Write rows as an export has them."""
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [name for name in COLUMNS if name in rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return path
