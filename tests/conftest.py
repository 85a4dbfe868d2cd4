"""Fixtures that several test folders share."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medloom.cli.main import main, split_command
from medloom.core.options import options_of
from medloom.core.progress import show_on_console
from medloom.recipes.commands import commands, resolve

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


# Files that take longest, so that none of them is begun last while other cores have nothing left to do.
LONG = (
    "test_executed.py",
    "test_studio_worker.py",
    "test_studio_pages.py",
    "test_studio_history.py",
    "test_evaluate_images.py",
    "test_not_learnt.py",
    "test_mask2image.py",
    "test_edit.py",
    "test_resume.py",
    "test_gan_task.py",
    "test_data_journeys.py",
    "test_evaluate_edits.py",
    "test_ablate.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; within a file and among the others the order stays."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


def pytest_configure() -> None:
    # Bits of a result depend on the number of threads, and networks as tiny as these are fastest on one.
    torch.set_num_threads(1)
    # What the library logs is what the command line shows.
    show_on_console()


@pytest.fixture
def shared() -> Path:
    """The folder of real data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}")
    return SHARED


def draw(rng: np.random.Generator, kind: str, size: int = 16) -> np.ndarray:
    """A grey disc or a colour square on a dark ground, uint8."""
    rows, columns = np.mgrid[:size, :size]
    centre = rng.uniform(size * 0.35, size * 0.65, 2)
    if kind == "disc":
        inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (size * rng.uniform(0.15, 0.3)) ** 2
        return np.where(inside, rng.integers(150, 250), rng.integers(5, 40)).astype(np.uint8)
    half = size * rng.uniform(0.15, 0.3)
    inside = (abs(rows - centre[0]) < half) & (abs(columns - centre[1]) < half)
    colour = np.where(inside[..., None], rng.integers(100, 250, 3), rng.integers(5, 40, 3))
    return colour.astype(np.uint8)


def write_manifest(root: Path, count: int = 12, size: int = 16, seed: int = 0, masks: bool = False) -> Path:
    """Draw images and write a manifest of two modalities: grey discs and colour squares."""
    root.mkdir()
    rng = np.random.default_rng(seed)
    lines = ["path,Text,modality,patient_id,view,label" + (",mask" if masks else "")]
    for number in range(count):
        kind = ("disc", "square")[number % 2]
        picture = draw(rng, kind, size)
        Image.fromarray(picture).save(root / f"{number}.png")
        side = ("left", "right")[number // 2 % 2]
        line = f'{number}.png,"A {kind}, {side}.",{kind.title()},p{number},{side},{kind}'
        if masks:
            grey = picture if picture.ndim == 2 else picture.max(-1)
            Image.fromarray((grey > 60).astype(np.uint8)).save(root / f"m{number}.png")
            line += f",m{number}.png"
        lines.append(line)
    (root / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "manifest.csv"


@pytest.fixture
def make_manifest(tmp_path: Path) -> Callable[..., Path]:
    """Draws images and writes a manifest of two modalities, see `write_manifest`."""

    def make(count: int = 12, size: int = 16, folder: str = "data", seed: int = 0, masks: bool = False) -> Path:
        return write_manifest(tmp_path / folder, count, size, seed, masks)

    return make


def medloom(words: Sequence[object]) -> int:
    """Run a command; those of its options that are settings go through a YAML file, as a user's would."""
    with tempfile.TemporaryDirectory() as folder:
        return main(with_settings(words, Path(folder)))


def with_settings(words: Sequence[object], folder: Path) -> list[str]:
    """A command line; those of its options that are settings stand in a YAML file in a folder."""
    words = [str(word) for word in words]
    command = next((name for name in (" ".join(words[:2]), words[0]) if name in commands()), None)
    if command is None:
        return words
    known = options_of(resolve(command)[0])
    _, rest = split_command(words)
    written: list[list[str]] = []
    for word in rest:
        if word.startswith("--"):
            written.append([])
        written[-1].append(word)
    kept, settings, given = command.split(), {}, ""
    for flag, *values in written:
        option = known.get(flag[2:].replace("-", "_"))
        if flag == "--config":
            given = Path(values[0]).read_text(encoding="utf-8")
        elif option is None or not option.setting:
            kept += [flag, *values]
        else:
            settings[option.name] = values[0] if option.count is None else [word for word in values if word]
    lines = [f"{name}: {json.dumps(value)}" for name, value in settings.items()]
    if not lines and not given:
        return kept
    (folder / "settings.yaml").write_text("\n".join([given, *lines]), encoding="utf-8")
    return [*kept, "--config", str(folder / "settings.yaml")]


TINY = {
    "image_size": [16],
    "validation": 0.2,
    "network.widths": [16, 32],
    "network.attention": [False, True],
    "network.patch": 2,
    "network.head_width": 16,
    "network.condition_width": 16,
    "text.width": 16,
    "text.layers": 1,
    "text.vocabulary": 300,
    "text.max_tokens": 24,
    "sampling.steps": 4,
    "loop.precision": "fp32",
    "loop.batch": 4,
    "loop.steps": 4,
    "loop.warmup": 2,
    "loop.log_every": 1,
    "loop.validate_every": 4,
    "loop.checkpoint_every": 2,
    "device": "cpu",
}


@pytest.fixture
def tiny_options() -> dict[str, object]:
    """Options of a text-to-image run that takes a second."""
    return dict(TINY)
