"""Padding is known to the model: in training rows, in every family, and in images that are asked for."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gan_rows
import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image
from stable_diffusion import make_stable_diffusion

import medloom
from medloom.core.mask_spec import MaskSpec, numbered
from medloom.core.types import Condition
from medloom.data.padding import Contents, TrainingExtents
from medloom.generators.base import ImageGenerator
from medloom.generators.diffusion.build import build_generator
from medloom.generators.diffusion.options import DenoiserOptions, NoiseOptions
from medloom.generators.options import TextOptions
from medloom.generators.sampling import DiffusionSampling, GANSampling
from medloom.generators.storage import load_generator
from medloom.generators.training_data import condition_tensors
from medloom.generators.training_facts import TrainingFacts
from medloom.networks.blocks import contained
from medloom.recipes.commands import run_command

SIZE = 16
TALL, WIDE, WHOLE = (16, 8), (8, 16), (16, 16)
SHAPES = {"X-ray": (TALL, WIDE, WHOLE), "CT": (WIDE,)}
STEPS = 200
QUICK = DiffusionSampling(steps=6, guidance=1.0)


def picture(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A bright picture with a brighter spot, and the mask of the spot: black is nowhere but in padding."""
    values, mask = rng.integers(150, 190) + rng.normal(0, 8, shape), np.zeros(shape, np.uint8)
    row, column = (int(rng.integers(1, length - 4)) for length in shape)
    values[row : row + 3, column : column + 3] = 250
    mask[row : row + 3, column : column + 3] = 1
    return values.clip(0, 255).astype(np.uint8), mask


def write_rows(folder: Path, shapes: dict[str, tuple[tuple[int, int], ...]], count: int = 18) -> Path:
    """Images of each modality in its shapes in turn; every other one of a shape has a mask."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["path,Text,modality,patient_id,age,mask"]
    for modality, own in shapes.items():
        for number in range(count):
            name, (values, mask) = f"{modality}-{number}", picture(rng, own[number % len(own)])
            Image.fromarray(values).save(folder / f"{name}.png")
            Image.fromarray(mask).save(folder / f"m{name}.png")
            given = f"m{name}.png" if number // len(own) % 2 == 0 else ""
            lines.append(f"{name}.png,A picture.,{modality},p{name},{40 + number},{given}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "data.csv"


# Options of TINY that a base decides.
BROUGHT = [
    name for name in TINY if name.startswith("network.") or name in ("text.width", "text.layers", "text.vocabulary")
]


def train(data: Path, out: Path, steps: int = 2, **more: Any) -> Path:
    masks = {"network.mask": "channels", "network.mask_classes": [1]} if "base" not in more else {}
    own = {name: value for name, value in TINY.items() if "base" not in more or name not in BROUGHT}
    options = {**own, **masks, "loop.steps": steps, "loop.validate_every": steps, "loop.checkpoint_every": steps}
    return run_command("train text2image", data=data, out=out, **{**options, "text.dropout": 0.2, **more})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on images of several shapes, some of them with masks; weights of regions leave nothing out."""
    root = tmp_path_factory.mktemp("padding")
    more = {"loop.batch": 8, "loop.learning_rate": 4e-3, "loop.ema": 0.98, "network.mask_balance": 0.25, "shift": 2}
    return train(write_rows(root / "data", SHAPES), root / "run", STEPS, table=["age"], **more)


def inside(extent: tuple[int, int]) -> np.ndarray:
    """Where content lies."""
    filled = np.zeros(WHOLE, bool)
    rows, columns = ((SIZE - own) // 2 for own in extent)
    filled[rows : rows + extent[0], columns : columns + extent[1]] = True
    return filled


def require_content(images: np.ndarray, extents: list[tuple[int, int]]) -> None:
    """Each image is bright where its content should lie, row by row and column by column, and dark beyond it."""
    for image, extent in zip((images[:, 0] + 1) * 127.5, extents, strict=True):
        filled = inside(extent)
        content = image[filled].reshape(extent)
        # A bar within the content is a dark row or column of it.
        assert min(content.mean(0).min(), content.mean(1).min()) > 75, (extent, content.mean(0), content.mean(1))
        if extent != WHOLE:
            assert image[~filled].mean() < 50, (extent, image[~filled].mean())


def asked(modality: str = "X-ray", **parts: Any) -> Condition:
    return Condition("A picture.", modality, table={"age": 50.0}, **parts)


def test_a_trained_model_draws_content_and_padding_where_they_are_asked_for(run: Path) -> None:
    """What the network itself draws, before the border is made exact: for masks of each shape, and without masks."""
    model = medloom.load(run, "cpu")
    assert model.knows_padding and model.extents is not None and model.extents.padded < model.extents.images
    masks, shapes = [], list(SHAPES["X-ray"])
    for shape in shapes:
        mask = np.zeros(shape, np.uint8)
        mask[3:6, 3:6] = 1
        masks.append(mask)
    made = model.sample([asked(mask=mask) for mask in masks], [0, 1, 2], QUICK)
    require_content(made.numpy(), shapes)
    # A mask decides, whatever the seed would have drawn; without one it is the seed.
    drawn = [model.extents.draw("X-ray", seed) for seed in range(12)]
    assert set(drawn) == set(shapes)
    made = model.sample([asked()] * 12, range(12), QUICK)
    require_content(made.numpy(), drawn)


def test_generated_images_have_the_shapes_of_their_modality_and_an_exact_border(run: Path, tmp_path: Path) -> None:
    for modality, shapes in SHAPES.items():
        given = {"prompt": "A picture.", "modality": modality, "table": "age=50", "n": 12}
        manifest = run_command(
            "generate", model=run, out=tmp_path / modality, steps=6, guidance=["1"], device="cpu", **given
        )
        found = set()
        for path in sorted(manifest.parent.glob("0*.png")):
            values = np.asarray(Image.open(path))
            filled = {shape: values[inside(shape)] for shape in shapes if not values[~inside(shape)].any()}
            fits = [shape for shape, content in filled.items() if content.mean() > 120]
            assert fits, (modality, path.name)
            found.add(fits[-1])
        assert found == set(shapes)


def test_arms_of_a_row_and_seed_share_their_border(run: Path, tmp_path: Path) -> None:
    data, out = run.parent / "data" / "unmasked.csv", tmp_path / "out"
    lines = (data.parent / "data.csv").read_text(encoding="utf-8").splitlines()
    data.write_text("\n".join([lines[0], *(f"{line.rpartition(',')[0]}," for line in lines[1:])]), encoding="utf-8")
    options = {"rows": 3, "n": 4, "steps": 6, "device": "cpu"}
    manifest = run_command("whatif", model=run, data=data, out=out, set=["age=55"], **options)
    with manifest.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    extents, model = set(), medloom.load(run, "cpu")
    assert model.extents is not None
    for factual, changed in zip(rows[::2], rows[1::2], strict=True):
        assert factual["seed"] == changed["seed"] and (factual["arm"], changed["arm"]) == ("factual", "age=55")
        pair = [np.asarray(Image.open(out / row["path"])).astype(int) for row in (factual, changed)]
        extent = model.extents.draw("X-ray", int(factual["seed"]))
        for values in pair:
            assert not values[~inside(extent)].any() and values[inside(extent)].mean() > 120
        extents.add(extent)
    assert len(rows) == 24 and extents == set(SHAPES["X-ray"])


def test_the_run_keeps_shapes_and_numbers_only_and_older_runs_load_without(run: Path, tmp_path: Path) -> None:
    settings = json.loads((run / "model" / "generator.json").read_text())
    counts = {entry["images"]: tuple(entry["extent"]) for entry in settings["extents"]["CT"]}
    assert list(counts.values()) == [WIDE] and set(settings["extents"]) == set(SHAPES)
    assert {tuple(entry["extent"]) for entry in settings["extents"]["X-ray"]} == set(SHAPES["X-ray"])

    # A run without padding keeps nothing, and its files are those of runs before padding was known.
    whole = train(write_rows(tmp_path / "whole", {"X-ray": (WHOLE,)}), tmp_path / "run")
    settings = json.loads((whole / "model" / "generator.json").read_text())
    assert "extents" not in settings
    config = json.loads((whole / "model/denoiser/config.json").read_text())
    assert config.pop("padding") is False
    shutil.copytree(whole, tmp_path / "older")
    (tmp_path / "older/model/denoiser/config.json").write_text(json.dumps(config))
    conditions = [Condition("A picture.", "X-ray")] * 2
    known, older = (medloom.load(path, "cpu") for path in (whole, tmp_path / "older"))
    assert older.extents is None and older.frame_positions(conditions, [0, 1]) is None
    assert torch.equal(older.sample(conditions, [0, 1], QUICK), known.sample(conditions, [0, 1], QUICK))


def test_a_run_that_continues_with_padded_images_learns_of_padding(tmp_path: Path) -> None:
    first = train(write_rows(tmp_path / "whole", {"CT": (WHOLE,)}), tmp_path / "first")
    both = train(write_rows(tmp_path / "both", SHAPES), tmp_path / "both-run", from_run=first)
    model, before = medloom.load(both, "cpu"), medloom.load(first, "cpu")
    assert model.knows_padding and not before.takes_positions
    assert model.extents is not None and set(model.extents.counts) == set(SHAPES)
    again = train(write_rows(tmp_path / "more", {"CT": (WHOLE,)}, 6), tmp_path / "third", from_run=both)
    third = medloom.load(again, "cpu").extents
    assert third is not None and set(third.counts["CT"]) == {WIDE, WHOLE}
    assert third.counts["X-ray"] == model.extents.counts["X-ray"]


def test_a_model_that_cannot_be_given_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, base = write_rows(tmp_path / "data", {"X-ray": SHAPES["X-ray"]}), make_stable_diffusion(tmp_path / "sd")
    train(data, tmp_path / "padded", base=base)
    said = " ".join("".join(capsys.readouterr()).split())
    model = load_generator(tmp_path / "padded/model")
    assert model.extents is not None and not model.knows_padding
    padded, images = model.extents.padded, model.extents.images
    assert 0 < padded < images and f"{padded} of {images} training images are padded to the model's shape" in said
    assert "Give --resize crop" in said
    assert model.frame_positions([Condition("A picture.", "X-ray")], [0]) is None
    train(data, tmp_path / "cropped", base=base, resize="crop")
    assert "are padded" not in "".join(capsys.readouterr())
    assert load_generator(tmp_path / "cropped/model").extents is None


# Without training: what rows carry, and what each family does with it.

EXTENTS = TrainingExtents(WHOLE, {"Disc": {TALL: 3, WIDE: 1}, "Square": {WHOLE: 2}})


def diffusion(**network: Any) -> ImageGenerator[Any, Any]:
    classes = network.get("mask_classes", ())
    facts = TrainingFacts(["Disc: a disc"], ["Disc", "Square"], masks=MaskSpec(numbered(classes)), extents=EXTENTS)
    options = DenoiserOptions(
        widths=(16, 16), attention=(False, False), head_width=16, patch=2, condition_width=16, **network
    )
    text = TextOptions(width=16, layers=1, vocabulary=600, max_tokens=24)
    return build_generator(gan_rows.spec_of(2, SIZE), facts, None, options, text, NoiseOptions(), 0)


def model_of(family: str) -> ImageGenerator[Any, Any]:
    """A model with random weights in every branch that was built for padded images."""
    model: ImageGenerator[Any, Any]
    if family == "gan":
        model = gan_rows.generator_of(size=SIZE, extents=EXTENTS)
    elif family == "editor":
        model = diffusion(prior="channels")
    else:
        model = diffusion(mask="channels", mask_classes=(1, 2))
    gan_rows.randomise(model.model)
    model.extents = EXTENTS
    return model


@pytest.mark.parametrize("family", ["diffusion", "gan", "editor"])
def test_an_image_part_decides_where_content_lies_in_every_family(family: str) -> None:
    model, part = model_of(family), "prior" if family == "editor" else "mask"
    sampling = GANSampling() if family == "gan" else QUICK
    for extent in (TALL, WIDE, WHOLE):
        given = {part: picture(np.random.default_rng(1), extent)[part == "mask"]}
        conditions = [Condition("a disc", "Disc", table={}, **given)] * 2
        assert model.frame_extents(conditions, [0, 1]) == [extent] * 2
        # The network is given it: with another position it draws something else, also within the content.
        sampled = model.sample(conditions, [0, 1], sampling)
        model.extents = None
        unknown = model.sample(conditions, [0, 1], sampling)
        model.extents = EXTENTS
        difference = (sampled - unknown).abs()[..., torch.from_numpy(inside(extent))].max()
        assert difference > 1e-3 if extent != WHOLE else difference < 0.5
        for image in model.images(conditions, [0, 1], sampling):
            assert not image.pixels[0][~inside(extent)].any() and image.pixels[0][inside(extent)].any()


def test_without_an_image_part_the_seed_decides_by_modality() -> None:
    model = model_of("editor")
    discs, squares = ([Condition("a disc", name)] * 40 for name in ("Disc", "Square"))
    drawn = model.frame_extents(discs, range(40))
    assert drawn == [EXTENTS.draw("Disc", seed) for seed in range(40)] and set(drawn) == {TALL, WIDE}
    assert model.frame_extents(squares, range(40)) == [WHOLE] * 40
    positions = model.frame_positions(discs, range(40))
    assert positions is not None and positions.shape == (40, 2, 2)
    np.testing.assert_allclose(positions[drawn.index(TALL)], [[-1, 1], [-2, 2]])


@pytest.mark.parametrize("dims", [2, 3])
def test_training_rows_carry_where_content_lies_also_when_they_are_shifted(dims: int) -> None:
    generator = gan_rows.generator_of(dims=dims, extents=EXTENTS)
    data, frame = gan_rows.data_of(generator), (gan_rows.SIZE,) * dims
    extents = np.array([frame] * 8)
    extents[::2, 0], extents[1::2, 1] = 6, 9
    filled = np.full((8, 1, *frame), -1.0, np.float32)
    for row, extent in enumerate(extents.tolist()):
        begins = [(length - own) // 2 for length, own in zip(frame, extent, strict=True)]
        filled[(row, 0, *(slice(begin, begin + own) for begin, own in zip(begins, extent, strict=True)))] = 1
    data = replace(data, targets=filled, contents=Contents(frame, extents))
    rows, repeated = list(range(8)), [0] * 8

    def carried(shift: int) -> tuple[torch.Tensor, torch.Tensor]:
        shifted = replace(data, shift=shift)
        crops = shifted.draw_crops(3, 5, rows, repeated)
        uniforms = torch.full((8,), 0.9, dtype=torch.float64)
        tensors = condition_tensors(generator, shifted, rows, uniforms, 0.0, crops)
        assert tensors.patch_position is not None
        return shifted.images(rows, crops), tensors.patch_position

    images, positions = carried(0)
    np.testing.assert_allclose(positions[0, :2], [[-2, 2], [-1, 1]])
    np.testing.assert_allclose(positions[1, :2], [[-1, 1], [-1 - 2 / 9, 1 + 4 / 9]], rtol=1e-6)
    # What the network is given is what the image shows, pixel by pixel.
    torch.testing.assert_close(contained(images, positions), (images + 1) / 2, atol=1e-5, rtol=0)
    moved, places = carried(4)
    assert (moved != images).flatten(1).any(1).all() or not torch.equal(places, positions)
    torch.testing.assert_close(contained(moved, places), (moved + 1) / 2, atol=1e-5, rtol=0)
    plain = replace(data, contents=None, shift=4)
    assert plain.positions(rows, plain.draw_crops(3, 5, rows, repeated)) is None
    edges = plain.images(rows, plain.draw_crops(3, 5, rows, repeated))
    assert (edges > moved).any() and (edges >= moved).all(), "edges come in where padding is not known"
