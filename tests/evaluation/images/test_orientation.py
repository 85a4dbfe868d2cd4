"""Mirrored and upside-down images are found where their class has sides, and only there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medloom.core.spec import ImageSpec
from medloom.evaluation.images.orientation import BACK_TO_FRONT, MIRRORED, UPSIDE_DOWN, flips_of
from medloom.evaluation.images.release import RELEASE
from medloom.recipes.evaluate_images import Config, run

SIZE = 16


def draw(rng: np.random.Generator, kind: str) -> np.ndarray:
    """A chest has its heart on one side; a head is the same from both, and neither is upside down."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + rng.uniform(-1, 1, (2, 1, 1))
    body = np.hypot(rows - 8, (columns - 8) * 1.2) < 7
    levels = rng.normal(40, 8, (SIZE, SIZE)) + 80 * body + 60 * (body & (rows > 9))
    if kind == "chest":
        levels += 70 * (np.hypot(rows - 6, columns - 10.5) < 2.5)
    return np.clip(levels, 0, 255).astype(np.uint8)


def write(folder: Path, count: int, seed: int, flipped: float = 0.0, axis: int = 1) -> Path:
    """Images of chests and heads in turns, some of them flipped."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    lines = ["path,modality,label,patient_id"]
    for number in range(count):
        kind = ("chest", "head")[number % 2]
        levels = draw(rng, kind)
        levels = np.flip(levels, axis) if rng.random() < flipped else levels
        Image.fromarray(levels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,X-ray,{kind},{folder.name}{number}")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder / "m.csv"


def inverted(manifest: Path) -> Path:
    """Upright, and unlike any real image."""
    for path in manifest.parent.glob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    return manifest


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("flipped")
    return {
        "train": write(root / "train", 160, 0),
        "real": write(root / "real", 80, 1),
        "fresh": write(root / "fresh", 80, 2),
        "half": write(root / "half", 80, 3, 0.5),
        "turned": write(root / "turned", 80, 4, 1.0, axis=0),
        "inverted": inverted(write(root / "inverted", 80, 5)),
        "cache": root / "cache",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mirrored", "turned"),
    [("fresh", (0, 0.1), (0, 0.1)), ("half", (0.5, 0.2), (0, 0.1)), ("turned", None, (1, 0.1))],
)
def test_flipped_images_are_found(
    name: str, mirrored: tuple[float, float] | None, turned: tuple[float, float], sets: dict[str, Path], tmp_path: Path
) -> None:
    """Of a chest upside down nothing is said of its sides."""
    given: dict[str, Any] = {"label": "label", "image_size": (SIZE,), "steps": 80, "device": "cpu"}
    given |= {"only": ("orientation",), "cache": sets["cache"], "train": sets["train"]}
    run(Config(real=sets["real"], synthetic=(sets[name],), out=tmp_path / "out", **given))
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    metrics = {metric["name"]: metric for metric in scores["metrics"]}
    for flip, expected in {MIRRORED: mirrored, UPSIDE_DOWN: turned}.items():
        assert (flip in metrics) is (expected is not None)
        if expected is None:
            continue
        (share, off), metric = expected, metrics[flip]
        assert metric["value"] == pytest.approx(share, abs=off), flip
        assert (metric["low"] > 0.05) is (share > 0), flip
    # Heads have no sides.
    assert mirrored is None or metrics[MIRRORED]["note"].startswith("Of chest. ")
    assert metrics[UPSIDE_DOWN]["note"].startswith("Of chest, head. ")
    # What is measured is what the gate asks for.
    assert {MIRRORED, UPSIDE_DOWN} <= {rule.metric for rule in RELEASE if rule.optional}


def test_of_images_unlike_real_ones_nothing_is_said(sets: dict[str, Path], tmp_path: Path) -> None:
    given: dict[str, Any] = {"label": "label", "image_size": (SIZE,), "steps": 80, "device": "cpu"}
    given |= {"only": ("orientation", "identifiers"), "cache": sets["cache"], "train": sets["train"]}
    run(Config(real=sets["real"], synthetic=(sets["inverted"],), out=tmp_path / "out", **given))
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert not {MIRRORED, UPSIDE_DOWN} & {metric["name"] for metric in scores["metrics"]}
    for flip in (MIRRORED, UPSIDE_DOWN):
        assert any(note.startswith(f"{flip}: not measured, since 0 of ") for note in scores["notes"])


@pytest.mark.slow
def test_images_without_sides_are_said_to_have_none(
    sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = {}
    for name in ("train", "real", "half"):
        rows = sets[name].read_text().splitlines()
        heads[name] = sets[name].with_name("heads.csv")
        heads[name].write_text("\n".join([rows[0], *(row for row in rows if ",head," in row)]) + "\n")
    given: dict[str, Any] = {"label": "none", "image_size": (SIZE,), "steps": 40, "device": "cpu"}
    out = tmp_path / "out"
    run(
        Config(
            real=heads["real"],
            synthetic=(heads["half"],),
            train=heads["train"],
            out=out,
            only=("orientation",),
            **given,
        )
    )
    scores = json.loads((out / "scores.json").read_text())
    assert [metric["name"] for metric in scores["metrics"]] == [UPSIDE_DOWN]
    # Of sections that answer none of the questions the console has the metrics.
    assert f"{UPSIDE_DOWN} of all: " in capsys.readouterr().err
    assert any(note.startswith(f"{MIRRORED}: not measured, since in no class") for note in scores["notes"])


def test_the_axes_of_volumes_are_those_of_their_orientation() -> None:
    spec = ImageSpec((8, 8, 8), 1, "pad", {}, spacing=(1, 1, 1), orientation="ASR")
    assert flips_of(spec) == {BACK_TO_FRONT: 2, UPSIDE_DOWN: 3, MIRRORED: 4}
    assert flips_of(ImageSpec((8, 8, 8), 1, "pad", {}, spacing=(1, 1, 1))) == {}
