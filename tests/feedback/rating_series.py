"""Images to rate, series of them, and ratings as a browser sends them."""

import uuid
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medloom.feedback.ratings.entries import Entry, Rating, Session
from medloom.feedback.ratings.plan import PlanOptions
from medloom.feedback.ratings.series import begin_series
from medloom.feedback.ratings.store import RatingStore


def write_images(root: Path, count: int, seed: int = 0, modality: str = "CXR", prompts: int = 0) -> Path:
    """A manifest of noise images; every `prompts` rows have the same texts again."""
    root.mkdir()
    random, lines = np.random.default_rng(seed), ["path,text,modality,patient_id,seed,source"]
    for number in range(count):
        Image.fromarray(random.integers(0, 255, (24, 20), dtype=np.uint8)).save(root / f"{number}.png")
        text = f"Prompt {number % (prompts or count)} of {root.name}."
        lines.append(f"{number}.png,{text},{modality},p{number},{100 + number},a site")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "manifest.csv"


def plan_options(**changed: Any) -> PlanOptions:
    usual: dict[str, Any] = {"blind": True, "real_fraction": 0.2, "repeats": 0.0, "round": 1, "rubric": "quality"}
    return PlanOptions(**{**usual, "pairs": False, "practice": 0, "seed": 0, **changed})


def begun(
    folder: Path, count: int = 6, raters: tuple[str, ...] = ("anna", "ben"), **changed: Any
) -> tuple[RatingStore, list[Session]]:
    """A store with a series of noise images."""
    data = folder / "images" / "manifest.csv"
    data = data if data.exists() else write_images(folder / "images", count)
    store = RatingStore(folder / "ratings.db")
    begin_series(store, raters, [data], plan_options(**changed))
    return store, store.sessions()


def entry(kind: str = "rating", name: str = "", **changed: Any) -> Entry:
    """What a browser sends: acceptable, matches."""
    answers = {"realism": 2, "match": 3} if kind == "rating" else {}
    usual: dict[str, Any] = {"answers": answers, "flags": (), "comment": "", "seconds": 2.5}
    return Entry(name or str(uuid.uuid4()), kind, **{**usual, **changed})


def rate_all(store: RatingStore, session: Session, **changed: Any) -> list[Rating]:
    return [store.post(session, place, entry(**changed)) for place in range(len(session.presentations))]
