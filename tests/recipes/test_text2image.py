"""The main job: a table of images and texts -> a run -> images."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from medloom.core.errors import UserError
from medloom.recipes.commands import run_command


def train(manifest: Path, out: Path, options: dict[str, object], **more: object) -> Path:
    return run_command("train text2image", data=manifest, out=out, **{**options, **more})


def make(run: Path, out: Path, **options: object) -> list[dict[str, str]]:
    manifest = run_command("generate", model=run, out=out, device="cpu", steps=3, **options)
    with manifest.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def run(make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]) -> Path:
    return train(make_manifest(), tmp_path / "run", tiny_options)


def test_a_run_folder_holds_what_it_should(run: Path) -> None:
    index = json.loads((run / "index.json").read_text())
    description = json.loads((run / "run.json").read_text())
    assert index["family"] == "diffusion" and index["exporter"] is None
    assert description["identity"]["options"]["loop"]["steps"] == 4
    assert set(description["identity"]["spec"]["intensity"]) == {"Disc", "Square"}
    assert (run / "samples" / "step-00000004.png").is_file()
    assert [path.name for path in (run / "state").iterdir()] == ["step-00000004"]
    assert (
        "SYNTHETIC" in (run / "model_card.md").read_text()
        and "Research use only" in (run / "model_card.md").read_text()
    )
    assert not list(run.rglob("*.pt")) + list(run.rglob("*.bin")) + list(run.rglob("*.pkl")) or all(
        path.parent.parent.name == "cache" for path in run.rglob("*.bin")
    )


def test_generate_writes_images_with_manifest_and_provenance(run: Path, tmp_path: Path) -> None:
    rows = make(run, tmp_path / "out", prompt="A disc, left.", modality="Disc", n=3, seed=5)
    assert [row["seed"] for row in rows] == ["5", "6", "7"]
    picture = Image.open(tmp_path / "out" / rows[0]["path"])
    assert picture.size == (16, 16) and picture.mode == "L"
    assert picture.info["SYNTHETIC"] == "YES" and len(picture.info["model"]) == 16
    assert "disc" not in json.dumps(picture.info).lower()
    assert "disc" not in (tmp_path / "out" / "generation.json").read_text().replace('"Disc"', "")


def test_full_provenance_tells_the_text(run: Path, tmp_path: Path) -> None:
    rows = make(run, tmp_path / "out", prompt="A square.", modality="Square", provenance="full")
    picture = Image.open(tmp_path / "out" / rows[0]["path"])
    assert picture.info["text"] == "A square." and picture.mode == "RGB"


def test_a_sample_depends_on_its_seed_alone(run: Path, tmp_path: Path) -> None:
    options = {"prompt": "A disc, left.", "modality": "Disc"}
    make(run, tmp_path / "many", n=16, seed=0, batch=16, **options)
    make(run, tmp_path / "alone", n=1, seed=7, batch=1, **options)
    batched = np.asarray(Image.open(tmp_path / "many" / "000007.png")).astype(int)
    alone = np.asarray(Image.open(tmp_path / "alone" / "000000.png")).astype(int)
    assert np.abs(batched - alone).max() <= 1
    other = np.asarray(Image.open(tmp_path / "many" / "000008.png")).astype(int)
    assert np.abs(batched - other).max() > 1


def test_generation_goes_on_where_it_stopped_and_refuses_other_options(run: Path, tmp_path: Path) -> None:
    options = {"prompt": "A disc.", "modality": "Disc", "n": 3}
    make(run, tmp_path / "out", **options)
    first = (tmp_path / "out" / "000001.png").read_bytes()
    (tmp_path / "out" / "000001.png").unlink()
    make(run, tmp_path / "out", **options)
    assert (tmp_path / "out" / "000001.png").read_bytes() == first
    with pytest.raises(UserError, match="made with other options"):
        make(run, tmp_path / "out", **{**options, "guidance": ["5"]})


def test_a_manifest_of_conditions(run: Path, make_manifest: Callable[..., Path], tmp_path: Path) -> None:
    data = make_manifest(4, folder="conditions", seed=3)
    rows = make(run, tmp_path / "out", data=data, n=2)
    assert len(rows) == 8 and [row["label"] for row in rows[:4]] == ["disc", "disc", "square", "square"]
    assert len({row["patient"] for row in rows}) == 4 and "p0" not in {row["patient"] for row in rows}


def test_conditions_need_no_images(run: Path, tmp_path: Path) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text(
        "path,Text,modality,label\ngone.png,A disc.,Disc,disc\n,A square.,Square,square\n", encoding="utf-8"
    )
    with_paths = make(run, tmp_path / "with", data=table, seed=3)
    table.write_text("Text,modality,label\nA disc.,Disc,disc\nA square.,Square,square\n", encoding="utf-8")
    without = make(run, tmp_path / "without", data=table, seed=3)
    assert [row["label"] for row in without] == ["disc", "square"]
    for one, other in zip(with_paths, without, strict=True):
        pictures = [
            np.array(Image.open(tmp_path / place / row["path"])) for place, row in (("with", one), ("without", other))
        ]
        assert np.array_equal(*pictures)
    own = make(run, tmp_path / "own", data=table, seed=3, images_are_patients=True)
    assert len({row["patient"] for row in own}) == 2 and len({row["patient"] for row in without}) == 1


def test_the_same_command_says_that_a_run_is_finished(
    run: Path, make_manifest: Callable[..., Path], tiny_options: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "logs" / "metrics.csv").read_bytes()
    train(run.parent / "data" / "manifest.csv", run, tiny_options)
    assert "is finished" in capsys.readouterr().err
    assert (run / "logs" / "metrics.csv").read_bytes() == before


def test_resuming_with_other_options_shows_the_difference(run: Path, tiny_options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"loop\.learning_rate was 0\.0005, now 0\.1"):
        train(run.parent / "data" / "manifest.csv", run, tiny_options, **{"loop.learning_rate": 0.1})


def test_a_run_of_before_an_option_existed_is_resumed(run: Path, tiny_options: dict[str, object]) -> None:
    description = json.loads((run / "run.json").read_text())
    assert description["identity"]["options"].pop("shift") == 0
    (run / "run.json").write_text(json.dumps(description))
    manifest = run.parent / "data" / "manifest.csv"
    train(manifest, run, tiny_options)
    with pytest.raises(UserError, match=r"shift was None, now 2"):
        train(manifest, run, tiny_options, shift=2)


def test_masks_on_channels_and_by_spade(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    manifest = make_manifest(masks=True)
    for fusion in ("channels", "spade"):
        options = {**tiny_options, "network.mask": fusion, "network.mask_classes": [1]}
        options |= {"network.pixel_width": 4, "noise.data_std": 0.5, "shift": 1}
        run = train(manifest, tmp_path / fusion, options)
        rows = make(run, tmp_path / f"{fusion}-out", modality="Disc", prompt="A disc.", mask=manifest.parent / "m0.png")
        assert len(rows) == 1


def test_the_network_sees_octave_bands_where_no_head_does(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    manifest = make_manifest()
    run = train(manifest, tmp_path / "run", {**tiny_options, "network.input_bands": True})
    weights = load_file(run / "model" / "denoiser" / "model.safetensors")
    assert weights["bands.weight"].any(), "learnt from zero"
    assert len(make(run, tmp_path / "out", modality="Disc", prompt="A disc.")) == 1
    with pytest.raises(UserError, match="sees such bands already"):
        train(manifest, tmp_path / "both", {**tiny_options, "network.input_bands": True, "network.pixel_width": 4})


def test_where_regions_alone_bring_the_text_every_image_needs_a_mask(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    masked, bare = make_manifest(masks=True), make_manifest(folder="bare", seed=1)
    partly = masked.with_name("partly.csv")
    partly.write_text(masked.read_text().replace(",m3.png", ",").replace(",m4.png", ","), encoding="utf-8")
    options = {**tiny_options, "network.mask": "channels", "network.mask_classes": [1], "network.fusion": "affine"}
    options |= {"network.styles_only": True, "network.region_outputs": True}
    with pytest.raises(UserError, match="styles_only: [12] of 1[0-2] training images have no mask"):
        train(partly, tmp_path / "partly", options)
    run = train(masked, tmp_path / "run", options)
    # Also where a run is continued, which has the network of the first.
    with pytest.raises(UserError, match="images have no mask, and texts and tables would not reach them"):
        train(bare, tmp_path / "more", options, from_run=run)
    assert not any((tmp_path / name).exists() for name in ("partly", "more"))


def test_a_model_without_masks_leaves_those_of_a_manifest_beside_its_images(
    run: Path, make_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_manifest(4, folder="masked", masks=True)
    rows = make(run, tmp_path / "out", data=data)
    assert [(tmp_path / "out" / row["mask"]).resolve() for row in rows] == [data.parent / f"m{n}.png" for n in range(4)]


def test_a_shift_that_cannot_be_is_refused(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    with pytest.raises(UserError, match="--shift -1: give a number of pixels"):
        train(make_manifest(), tmp_path / "run", tiny_options, shift=-1)
    assert not (tmp_path / "run").exists()


def test_a_new_modality_is_added_to_a_run(
    run: Path, make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    manifest = make_manifest(folder="new")
    text = manifest.read_text().replace("Square", "Cross")
    manifest.write_text(text)
    grown = train(manifest, tmp_path / "grown", tiny_options, from_run=run)
    spec = json.loads((grown / "run.json").read_text())["identity"]["spec"]
    assert set(spec["intensity"]) == {"Disc", "Square", "Cross"}
    assert len(make(grown, tmp_path / "old", prompt="A square.", modality="Square")) == 1
    assert len(make(grown, tmp_path / "fresh", prompt="A square.", modality="Cross")) == 1


def test_one_modality_need_not_be_named(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    manifest = make_manifest()
    manifest.write_text(manifest.read_text().replace("Square", "Drawing").replace("Disc", "Drawing"))
    run = train(manifest, tmp_path / "one", tiny_options)
    make(run, tmp_path / "unnamed", prompt="A disc.")
    make(run, tmp_path / "named", prompt="A disc.", modality="Drawing")
    pictures = [np.asarray(Image.open(tmp_path / name / "000000.png")) for name in ("unnamed", "named")]
    np.testing.assert_array_equal(*pictures)


def test_negative_prompts_and_guidance_change_the_image(run: Path, tmp_path: Path) -> None:
    options = {"prompt": "A disc, left.", "modality": "Disc"}
    variants = {
        "plain": {},
        "strong": {"guidance": ["6"]},
        "negative": {"negative": "A square."},
        "text": {"guidance": ["text=7"]},
    }
    pictures = {}
    for name, more in variants.items():
        make(run, tmp_path / name, **options, **more)
        pictures[name] = (tmp_path / name / "grid.png").read_bytes()
    assert len(set(pictures.values())) == len(variants)
