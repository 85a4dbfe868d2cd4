"""`medloom train mask2image`, and `generate` and `whatif` with what it makes, on volumes and slices of any size."""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from conftest import medloom
from PIL import Image as Pillow
from pydicom.uid import generate_uid
from scipy import ndimage

from medloom.core.config import configure, shipped
from medloom.core.files import hash_file
from medloom.core.image import Image
from medloom.data.image_io.geometry import to_orientation
from medloom.data.images import read_image, write_image
from medloom.generators.diffusion.options import MaskToImage as Config
from medloom.generators.storage import load_generator
from medloom.training.loop import Loop

NETWORK = (
    "--network.widths 16 16 --network.attention false false --network.head-width 16 --network.condition-width 16"
    " --text.width 16 --text.layers 1 --text.vocabulary 600 --text.max-tokens 24 --loop.precision fp32 --loop.batch 2"
    " --loop.warmup 0 --loop.log-every 1 --loop.ema 0.9 --device cpu --validation 0.3 --unit HU"
).split()
SHORT = "--loop.steps 2 --loop.validate-every 2 --loop.checkpoint-every 1".split()
VOLUMES = ["--dims", "3", "--patch", "8", "--network.patch", "1"]
CLASSES = "1: left lung\n2: right lung\n3: nodule\n"
# Voxels of the model's axes, R, A, S: the first axis goes to the patient's right, so that low indices are on the left.
SIZE, SPACING = (20, 14, 10), (2.0, 2.0, 3.0)
VALUES = {0: -100, 1: -800, 2: -700, 3: 600}
ORDERS = ("RAS", "LPS", "SAL", "PIR")


def anatomy(rng: np.random.Generator, size: Sequence[int] = SIZE) -> np.ndarray:
    """Labels of two lungs, the left one with a nodule somewhere in it."""
    labels = np.zeros(size, np.int16)
    middle = size[0] // 2
    labels[1 : middle - 1, 2:-2, 1:-1], labels[middle + 1 : -1, 2:-2, 1:-1] = 1, 2
    corner = [int(rng.integers(low, high)) for low, high in ((1, middle - 4), (2, size[1] - 5), (1, size[2] - 4))]
    labels[tuple(slice(first, first + 3) for first in corner)] = 3
    return labels


def volume_of(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    values = np.vectorize(VALUES.get)(labels)
    return (values + rng.normal(0, 30, labels.shape)).astype(np.int16)


def affine_of(spacing: Sequence[float] = SPACING) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-17, -25, 40)
    return affine


def save(path: Path, array: np.ndarray, codes: str = "RAS", spacing: Sequence[float] = SPACING) -> Path:
    nibabel.save(nibabel.Nifti1Image(*to_orientation(array, affine_of(spacing), codes)), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes of several sizes and orders of axes with their masks, and a run on patches of them without texts."""
    root = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    lines = ["path,mask,modality,patient_id,kind"]
    for number in range(8):
        labels = anatomy(rng, (20 + number, 14, 10 - 3 * (number % 2)))
        save(root / f"{number}.nii.gz", volume_of(labels, rng), ORDERS[number % 4])
        save(root / f"m{number}.nii.gz", labels, ORDERS[(number + 1) % 4])
        lines.append(f"{number}.nii.gz,m{number}.nii.gz,CT,p{number},{('old', 'young')[number % 2]}")
    (root / "data.csv").write_text("\n".join(lines) + "\n")
    (root / "classes.yaml").write_text(CLASSES)
    (root / "template.yaml").write_text("columns:\n  kind: {values: {old: old, young: young}}\n")
    long = "--loop.steps 240 --loop.batch 4 --loop.learning-rate 4e-3 --loop.validate-every 240".split()
    often = "--loop.checkpoint-every 240 --loop.log-every 40 --loop.schedule cosine".split()
    train(root / "data.csv", root / "run", *long, *often, "--classes", root / "classes.yaml", "--table", "kind")
    return root


def words_of(data: Path, *more: object) -> list[str]:
    words = ["train", "mask2image", "--data", data, *NETWORK, *VOLUMES, *SHORT, *more]
    return [str(word) for word in words]


def train(data: Path, out: Path, *more: object) -> Path:
    assert medloom([*words_of(data, *more), "--out", str(out)]) == 0
    return out


def make(command: str, model: Path, out: Path, *more: object) -> list[dict[str, str]]:
    words = [command, "--model", model, "--out", out, "--device", "cpu", "--steps", "3", *more]
    assert medloom(words) == 0
    with (out / "manifest.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Runs a command that has to fail; gives its sentence and checks that nothing was left behind."""

    def run(*words: object) -> str:
        target = tmp_path / "bad"
        capsys.readouterr()
        assert medloom((*words, "--out", target)) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error and not target.exists()
        return error[error.index("medloom: ") :]

    return run


def digests(run: Path) -> dict[str, str]:
    files = [run / "logs" / "metrics.csv", *sorted((run / "state").rglob("*")), *sorted((run / "model").rglob("*"))]
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()
    }


# Training


def test_a_run_says_what_it_was_trained_on(folder: Path) -> None:
    described = json.loads((folder / "run" / "run.json").read_text())["identity"]
    assert described["spec"]["patch"] and described["spec"]["size"] == [8, 8, 8]
    assert described["spec"]["spacing"] == [2.0, 2.0, 3.0] and described["spec"]["orientation"] == "RAS"
    assert described["options"]["foreground"] == 0.75 and described["options"]["augment"] == "none"
    generator = load_generator(folder / "run" / "model")
    assert generator.masks.names == {1: "left lung", 2: "right lung", 3: "nodule"} and not generator.reads_text
    assert generator.model.denoiser.config.fusion == "affine" and generator.columns[0].name == "kind"
    assert (folder / "run/samples/step-00000240.png").is_file()


@pytest.mark.slow
def test_a_run_that_is_killed_ends_in_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With random patches, turned and mirrored ones, of few rows."""
    more = [
        "--classes",
        folder / "pairs.yaml",
        "--augment",
        "affine",
        "--flip",
        "--loop.steps",
        "5",
        "--loop.batch",
        "12",
    ]
    (folder / "pairs.yaml").write_text("1: left lung\n2: right lung\n3: nodule\n")
    whole = train(folder / "data.csv", tmp_path / "whole", *more, "--loop.validate-every", "5")
    after = Loop._after_step

    def killed(self: Loop, *arguments: object) -> None:
        after(self, *arguments)
        if self.step == 3:
            raise KeyboardInterrupt

    out = tmp_path / "killed"
    words = [
        *words_of(folder / "data.csv", *more, "--loop.validate-every", "5", "--loop.checkpoint-every", "2"),
        "--out",
    ]
    monkeypatch.setattr(Loop, "_after_step", killed)
    assert medloom([*words, str(out)]) == 130
    monkeypatch.undo()
    assert medloom([*words, str(out)]) == 0
    assert medloom([*words, str(tmp_path / "other")]) == 0
    assert digests(out) == digests(tmp_path / "other")
    assert digests(out)["model/denoiser/model.safetensors"] == digests(whole)["model/denoiser/model.safetensors"]


@pytest.mark.parametrize(
    "more",
    [
        ["--network.fusion", "none", "--network.mask", "spade", "--noise.loss", "l1"],
        ["--network.fusion", "cross-attention", "--spacing", "4", "4", "4", "--foreground", "0", "--resample-masks"],
        ["--preset", "dgm-vlc", "--patch", "8", "8", "8", "--text.modality-as", "token"],
        ["--image-size", "8", "8", "8", "--patch", "[]", "--network.coordinates", "false"],
    ],
)
def test_every_way_to_train_ends_in_volumes(folder: Path, tmp_path: Path, more: list[str]) -> None:
    run = train(folder / "data.csv", tmp_path / "run", *more)
    sampler = ["--sampler", "ancestral", "--guidance", "1"] if "--preset" in more else []
    rows = make("generate", run, tmp_path / "out", "--mask", folder / "m0.nii.gz", *sampler)
    made = nibabel.load(tmp_path / "out" / rows[0]["path"])
    mask = nibabel.load(folder / "m0.nii.gz")
    if "--image-size" in more:
        image = read_image(tmp_path / "out" / rows[0]["path"])
        middle = [
            read.affine @ [*(np.array(read.size) - 1) / 2, 1] for read in (image, read_image(folder / "m0.nii.gz"))
        ]
        assert image.size == (8, 8, 8)
        np.testing.assert_allclose(*middle, atol=1e-3)
    else:
        assert made.shape == mask.shape
        np.testing.assert_array_equal(made.affine, mask.affine)


def test_the_published_preset_is_what_was_published() -> None:
    config = configure(Config, data="a.csv", out="b", preset="dgm-vlc")
    noise = config.noise
    assert (noise.process, noise.steps, noise.prediction, noise.loss, noise.schedule) == (
        "ddpm",
        250,
        "epsilon",
        "l1",
        "cosine",
    )
    assert config.patch == (256, 256, 64) and config.dims == 3 and config.text.dropout == 0
    assert config.network.fusion == "cross-attention" and config.network.mask == "channels"
    assert set(shipped(Config, "size")) == {"tiny", "small", "base"}
    for size in ("tiny", "small", "base"):
        assert configure(Config, data="a.csv", out="b", size=size).network.mask == "channels"


def test_slices_of_any_size_with_mirrored_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["path,mask,Text,patient_id,view"]
    for number in range(6):
        size = (18 + number, 24)
        labels = np.zeros(size, np.uint8)
        labels[4:14, 2:9], labels[4:14, 15:22] = 2, 1
        Pillow.fromarray((labels * 60 + rng.integers(0, 40, size)).astype(np.uint8)).save(tmp_path / f"{number}.png")
        Pillow.fromarray(labels).save(tmp_path / f"m{number}.png")
        side = ("left", "right")[number % 2]
        lines.append(f"{number}.png,m{number}.png,a {side} effusion,p{number},{side} lateral")
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "classes.json").write_text('{"1": "left lung", "2": "right lung"}')
    given = ["--patch", "16", "--dims", "2", "--network.patch", "2", "--classes", tmp_path / "classes.json"]
    words = [word for word in NETWORK if word not in ("--unit", "HU")]
    data, run = tmp_path / "data.csv", tmp_path / "run"
    assert (
        medloom(
            [str(w) for w in ["train", "mask2image", "--data", data, *words, *SHORT, *given, "--flip", "--out", run]]
        )
        == 0
    )
    rows = make("generate", run, tmp_path / "out", "--data", data)
    sizes = [Pillow.open(tmp_path / "out" / row["path"]).size for row in rows]
    assert sizes == [(24, 18 + number) for number in range(6)]
    assert (tmp_path / "out" / rows[3]["mask"]).resolve() == (tmp_path / "m3.png").resolve()


def test_a_dicom_series_is_a_volume_to_train_on(folder: Path, tmp_path: Path) -> None:
    labels, rng = anatomy(np.random.default_rng(1)), np.random.default_rng(2)
    values, uid = volume_of(labels, rng), generate_uid()
    (tmp_path / "series").mkdir()
    affine = affine_of()
    for number in range(SIZE[2]):
        place = affine.copy()
        place[:3, 3] = (affine @ [0, 0, number, 1])[:3]
        image = Image(values[None, :, :, number].astype(np.float32), "HU", affine=place)
        write_image(tmp_path / "series" / f"{number}.dcm", image, {})
        data = pydicom.dcmread(tmp_path / "series" / f"{number}.dcm")
        data.SeriesInstanceUID = uid
        data.save_as(tmp_path / "series" / f"{number}.dcm", enforce_file_format=True)
    save(tmp_path / "mask.nii.gz", labels, "LPS")
    (tmp_path / "data.csv").write_text("path,mask,modality,patient_id\nseries,mask.nii.gz,CT,p\n")
    words = [word for word in NETWORK if word not in ("--unit", "HU")]
    given = ["--validation", "0", "--out", tmp_path / "run", *VOLUMES, *SHORT]
    assert medloom(["train", "mask2image", "--data", tmp_path / "data.csv", *words, *given]) == 0
    spec = json.loads((tmp_path / "run/run.json").read_text())["identity"]["spec"]
    assert spec["intensity"]["CT"]["unit"] == "HU" and spec["spacing"] == [2.0, 2.0, 3.0]


# Whole volumes


def brightest(values: np.ndarray) -> np.ndarray:
    """The middle of the largest bright part, in indices."""
    parts, _ = ndimage.label(values > 200)
    return np.argwhere(parts == np.bincount(parts.ravel())[1:].argmax() + 1).mean(0)


def nodule_by_nibabel(path: Path) -> np.ndarray:
    loaded = nibabel.load(path)
    return (loaded.affine @ [*brightest(loaded.get_fdata()), 1])[:3]


def nodule_by_itk(path: Path) -> np.ndarray:
    image = SimpleITK.ReadImage(os.fspath(path))
    found = brightest(SimpleITK.GetArrayFromImage(image))[::-1]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(found.tolist())) * (-1, -1, 1)


def test_a_nodule_stands_where_an_edited_mask_has_it_in_every_reader(folder: Path, tmp_path: Path) -> None:
    """The model is trained; the mask is new, larger than all before, on a finer grid, and in another order of axes."""
    labels = np.repeat(np.repeat(anatomy(np.random.default_rng(9), (26, 16, 10)), 2, 0), 2, 1)
    path = save(tmp_path / "edited.nii.gz", labels, "LPI", (1.0, 1.0, 3.0))
    given = ["--mask", path, "--table", "kind=old", "--guidance", "1", "--n", "2"]
    rows = make("generate", folder / "run", tmp_path / "out", *given, "--steps", "8")
    made = tmp_path / "out" / rows[0]["path"]
    loaded, mask = nibabel.load(made), nibabel.load(path)
    assert loaded.shape == mask.shape and loaded.get_data_dtype() == np.int16
    np.testing.assert_array_equal(loaded.affine, mask.affine)
    put = (affine_of((1.0, 1.0, 3.0)) @ [*np.argwhere(labels == 3).mean(0), 1])[:3]
    for find in (nodule_by_nibabel, nodule_by_itk):
        np.testing.assert_allclose(find(made), put, atol=1.5)
    values, told = read_image(made, unit="HU").pixels[0], labels
    for label, mean in VALUES.items():
        # A nodule of three voxels of the model is blurred on the finer grid of the mask.
        assert values[told == label].mean() == pytest.approx(mean, abs=350 if label == 3 else 120)
    bright = values > 200
    assert 2 * (bright & (told == 3)).sum() / (bright.sum() + (told == 3).sum()) > 0.7
    other = read_image(tmp_path / "out" / rows[1]["path"], unit="HU").pixels[0]
    assert 1 < np.abs(other - values).mean() < 150


def test_the_same_again_and_in_other_windows(folder: Path, tmp_path: Path) -> None:
    given = ["--mask", folder / "m2.nii.gz", "--table", "kind=old"]
    for name, more in {"a": [], "b": ["--windows", "1"], "c": ["--overlap", "0.6"]}.items():
        make("generate", folder / "run", tmp_path / name, *given, *more)
    a, b, c = (read_image(tmp_path / name / "000000.nii.gz").pixels for name in "abc")
    assert np.abs(a - b).max() <= 1 and 0 < np.abs(a - c).mean() < 100


def test_patches_of_a_mask_lie_where_they_were_cut(folder: Path, tmp_path: Path) -> None:
    rows = make("generate", folder / "run", tmp_path, "--data", folder / "data.csv", "--crops", "--n", "2")
    places = []
    for number, row in enumerate(rows):
        patch = read_image(tmp_path / row["path"])
        mask = read_image(folder / f"m{number // 2}.nii.gz")
        assert patch.size == (8, 8, 8)
        first = np.linalg.inv(mask.affine) @ patch.affine @ [0, 0, 0, 1]
        np.testing.assert_allclose(first, np.round(first), atol=1e-3)
        assert (first[:3] + 8 > 0).all() and (first[:3] < mask.size).all()
        places.append(tuple(np.round(first).astype(int)))
    assert len(set(places)) > 4


def test_a_hidden_class_is_seen_as_the_one_that_contains_it(folder: Path, tmp_path: Path) -> None:
    run = train(
        folder / "data.csv",
        tmp_path / "run",
        "--classes",
        folder / "classes.yaml",
        "--hide-classes",
        "nodule=left lung",
    )
    generator = load_generator(run / "model")
    assert generator.masks.hidden == {3: 1} and generator.model.mask_classes == (1, 2)
    labels = np.asarray(nibabel.load(folder / "m0.nii.gz").dataobj).astype(np.int16)
    image = nibabel.load(folder / "m0.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image(np.where(labels == 3, 1, labels).astype(np.int16), image.affine), tmp_path / "no.nii.gz"
    )
    for name, mask in {"with": folder / "m0.nii.gz", "without": tmp_path / "no.nii.gz"}.items():
        make("generate", run, tmp_path / name, "--mask", mask)
    np.testing.assert_array_equal(
        *(read_image(tmp_path / name / "000000.nii.gz").pixels for name in ("with", "without"))
    )


def test_what_if_on_whole_volumes(folder: Path, tmp_path: Path) -> None:
    given = ["--data", folder / "data.csv", "--rows", "2", "--n", "1", "--set", "kind=young", "--guidance", "1"]
    rows = make("whatif", folder / "run", tmp_path / "out", *given)
    assert [row["arm"] for row in rows] == ["factual", "kind=young"] * 2
    for row in rows:
        image, mask = read_image(tmp_path / "out" / row["path"]), read_image((tmp_path / "out" / row["mask"]).resolve())
        assert image.size == mask.size
        np.testing.assert_allclose(image.affine, mask.affine)
    described = json.loads((tmp_path / "out" / "whatif.json").read_text())
    assert described["classes"] == {"1": "left lung", "2": "right lung", "3": "nodule"}


# Bad input


def changed(folder: Path, tmp_path: Path, **cells: object) -> Path:
    """The manifest with other cells in its first row."""
    with (folder / "data.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["path"], row["mask"] = str(folder / row["path"]), str(folder / row["mask"])
    rows[0] |= {name: str(cell) for name, cell in cells.items()}
    target = tmp_path / "changed.csv"
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return target


def first_mask(folder: Path) -> np.ndarray:
    return np.round(read_image(folder / "m0.nii.gz").pixels[0]).astype(np.int16)


def test_a_mask_of_another_geometry(folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    save(tmp_path / "m.nii.gz", first_mask(folder), spacing=(2.0, 2.0, 3.3))
    error = fails(*words_of(changed(folder, tmp_path, mask=tmp_path / "m.nii.gz")))
    assert "1 of " in error and "line 2: " in error and "2 x 2 x 3.3 mm" in error and "2 x 2 x 3 mm" in error
    assert "--resample-masks" in error and "0.nii.gz" in error
    train(changed(folder, tmp_path, mask=tmp_path / "m.nii.gz"), tmp_path / "resampled", "--resample-masks")
    train(changed(folder, tmp_path, mask=tmp_path / "m.nii.gz"), tmp_path / "skipped", "--skip-bad")


def test_a_label_that_is_no_class(folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    labels = first_mask(folder)
    labels[0, 0, 0] = 9
    path = save(tmp_path / "m.nii.gz", labels)
    given = ["--classes", folder / "classes.yaml"]
    assert "label 9 is not one of the mask classes (1 left lung" in fails(
        *words_of(changed(folder, tmp_path, mask=path), *given)
    )
    making = ["generate", "--model", folder / "run", "--table", "kind=old", "--device", "cpu"]
    assert f"{path}: label 9 is not one of the mask classes" in fails(*making, "--mask", path)
    flat = tmp_path / "flat.png"
    Pillow.fromarray(np.eye(8, dtype=np.uint8)).save(flat)
    assert "flat.png has 2 spatial axes and the model 3" in fails(*making, "--mask", flat)
    assert "generates an image of its mask's size: name one with --mask" in fails(*making)
    whatif = ["whatif", "--model", folder / "run", "--data", folder / "data.csv", "--set", "kind=old"]
    assert "--crops: a what-if generates whole images" in fails(*whatif, "--crops")
    assert "leave the text (--prompt) out" in fails(*making, "--mask", folder / "m0.nii.gz", "--prompt", "lungs")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_volume_with_voxels_that_are_not_finite(
    folder: Path, tmp_path: Path, fails: Callable[..., str], value: float
) -> None:
    values = read_image(folder / "0.nii.gz").pixels[0]
    values[3, 3, 3] = value
    path = save(tmp_path / "0.nii.gz", values)
    error = fails(*words_of(changed(folder, tmp_path, path=path)))
    assert "line 2: " in error and "holds 1 values that are not finite" in error


def test_a_model_of_slices_on_volumes(folder: Path, fails: Callable[..., str]) -> None:
    words = words_of(folder / "data.csv", "--dims", "2", "--patch", "16")
    assert "has 3 spatial axes and the model has 2" in fails(*words)


def test_a_series_that_cannot_be_read(folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "data.csv").write_text(f"path,mask,patient_id\nseries,{folder / 'm0.nii.gz'},p\n")
    given = words_of(tmp_path / "data.csv", "--validation", "0")
    words = [word for word in given if word not in ("--unit", "HU")]
    assert "series holds no DICOM image; name an image file, or a folder with one DICOM series" in fails(*words)
    (tmp_path / "series" / "1.dcm").write_bytes(b"\0" * 200)
    assert "1.dcm" in fails(*words)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dims", "4"], "--dims 4: images have 2 or 3 axes"),
        (["--patch", "8", "8"], "--patch 8 8: give 3 numbers"),
        (["--patch", "9"], "needs multiples of 2 on each axis"),
        (["--spacing", "1", "1"], "--spacing 1 1: give 3 numbers of mm"),
        (["--augment", "afine"], "did you mean 'affine'"),
        (["--flip"], "--flip needs --classes"),
        (["--shift", "1"], "--shift moves whole images"),
        (["--patch", "[]", "--image-size", "8", "--shift", "-1"], "--shift -1: give a number of pixels"),
        (["--foreground", "2"], "the setting foreground is 2"),
        (["--network.mask", "none"], "images are generated from masks"),
        (["--network.mask-classes", "1", "2"], "label 3 is not"),
        (["--autoencoder", "run"], "--autoencoder and --patch exclude each other: an autoencoder takes whole images"),
        (["--patch", "[]", "--image-size", "8", "--autoencoder", "run"], "--autoencoder takes whole 2-D images"),
        (["--noise.loss", "l3"], "the setting noise.loss is l3: allowed are l2, l1"),
        (["--hide-classes", "nodul"], "--hide-classes nodul: unknown mask class"),
        (["--columns", "mask=nothing"], "no column 'nothing' for mask"),
    ],
)
def test_options_that_do_not_fit(folder: Path, fails: Callable[..., str], more: list[str], message: str) -> None:
    assert message in fails(*words_of(folder / "data.csv", *more))


def test_volumes_of_several_spacings_need_one_named(folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    rng = np.random.default_rng(3)
    labels = anatomy(rng)
    image = save(tmp_path / "i.nii.gz", volume_of(labels, rng), spacing=(1.0, 1.0, 1.0))
    mask = save(tmp_path / "m.nii.gz", labels, spacing=(1.0, 1.0, 1.0))
    data = changed(folder, tmp_path, path=image, mask=mask)
    error = fails(*words_of(data))
    assert "volumes have the spacings 2 x 2 x 3 mm (7 volumes), 1 x 1 x 1 mm (1 volumes)" in error
    assert "e.g. --spacing 2 2 3." in error
    train(data, tmp_path / "run", "--spacing", "2", "2", "3")


def test_whole_volumes_are_shifted_with_their_masks(folder: Path, tmp_path: Path) -> None:
    whole = ["--patch", "[]", "--image-size", "8", "--cache", str(tmp_path / "cache")]
    runs = [train(folder / "data.csv", tmp_path / name, *whole, "--shift", name[0]) for name in ("0", "0again", "2")]
    weights = [hash_file(run / "model" / "denoiser" / "model.safetensors") for run in runs]
    assert weights[0] == weights[1] != weights[2]


def test_crops_are_for_models_of_patches(folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    run = train(folder / "data.csv", tmp_path / "run", "--patch", "[]", "--image-size", "8")
    words = ["generate", "--model", run, "--mask", folder / "m0.nii.gz", "--crops"]
    assert "--crops: the model was trained on whole images" in fails(*words)
