"""An image that is there stands for what its own file says, and for nothing else."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medloom.core.errors import UserError
from medloom.data.images import read_provenance
from medloom.generators.base import ImageGenerator
from medloom.recipes.commands import run_command

TABLE = ["Text,modality,label", "A disc.,Disc,A", "A square.,Square,B", "A disc.,Disc,C"]


@pytest.fixture
def model(make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]) -> Path:
    manifest, masked = make_manifest(masks=True), {"network.mask": "channels"}
    # Some images have no mask, so that a condition may lack one.
    lines = [line.removesuffix(f"m{number - 1}.png") for number, line in enumerate(manifest.read_text().splitlines())]
    table(manifest, lines[:5] + manifest.read_text().splitlines()[5:])
    return run_command("train text2image", data=manifest, out=tmp_path / "run", **tiny_options, **masked)


def table(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make(model: Path, out: Path, **options: object) -> list[dict[str, str]]:
    manifest = run_command("generate", model=model, out=out, device="cpu", steps=2, **options)
    with manifest.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_table_that_grew_is_continued(model: Path, tmp_path: Path) -> None:
    masks = [f"{line},{tmp_path / 'data' / 'm0.png' if number else 'mask'}" for number, line in enumerate(TABLE)]
    data = table(tmp_path / "c.csv", masks)
    make(model, tmp_path / "out", data=data)
    first = (tmp_path / "out" / "000000.png").stat().st_mtime_ns
    table(data, [*masks, masks[1].replace(",A", ",D")])
    rows = make(model, tmp_path / "out", data=data)
    assert [row["label"] for row in rows] == ["A", "B", "C", "D"]
    assert (tmp_path / "out" / "000000.png").stat().st_mtime_ns == first
    make(model, tmp_path / "whole", data=data)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("form", ["png", "dicom"])
def test_more_images_of_the_same_and_a_table_that_was_moved(form: str, model: Path, tmp_path: Path) -> None:
    prompt = {"prompt": "A disc.", "modality": "Disc", "format": form}
    make(model, tmp_path / "out", **prompt, n=2)
    first = bytes_of(tmp_path / "out")
    make(model, tmp_path / "out", **prompt, n=4)
    make(model, tmp_path / "whole", **prompt, n=4)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert first.items() - bytes_of(tmp_path / "out").items() <= {
        entry for entry in first.items() if not entry[0].startswith("0")
    }
    with pytest.raises(UserError, match="fewer images are asked for"):
        make(model, tmp_path / "out", **prompt, n=3)
    data = table(tmp_path / "c.csv", TABLE)
    make(model, tmp_path / "table", data=data, format=form)
    before = {name: data for name, data in bytes_of(tmp_path / "table").items() if name.startswith("0")}
    (tmp_path / "elsewhere").mkdir()
    make(model, tmp_path / "table", data=data.rename(tmp_path / "elsewhere" / "moved.csv"), format=form)
    assert {name: data for name, data in bytes_of(tmp_path / "table").items() if name.startswith("0")} == before


def test_a_table_that_changed_is_refused(model: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "c.csv", TABLE)
    make(model, tmp_path / "out", data=data)
    before = bytes_of(tmp_path / "out")
    for changed, first in (
        ([TABLE[0], "A square.,Square,NEW", *TABLE[1:]], "000000.png"),
        ([*TABLE[:3], "A big disc.,Disc,C"], "000002.png"),
        (TABLE[:3], "000002.png"),
    ):
        table(data, changed)
        with pytest.raises(UserError, match=rf"made from other rows, files or options .*, {first} the first"):
            make(model, tmp_path / "out", data=data)
        assert bytes_of(tmp_path / "out") == before
    # What is carried along is no part of the image.
    table(data, [*TABLE[:3], "A disc.,Disc,NEW"])
    assert make(model, tmp_path / "out", data=data)[2]["label"] == "NEW"
    for name in ("000000.png", "000001.png", "000002.png"):
        assert (tmp_path / "out" / name).read_bytes() == before[name]


def test_a_mask_that_was_replaced_is_refused_wherever_it_lies(model: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    shutil.copy(tmp_path / "data" / "m0.png", mask)
    options = {"prompt": "A disc.", "modality": "Disc"}
    make(model, tmp_path / "out", **options, mask=mask)
    image = (tmp_path / "out" / "000000.png").read_bytes()
    make(model, tmp_path / "out", **options, mask=shutil.move(mask, tmp_path / "moved.png"))
    assert (tmp_path / "out" / "000000.png").read_bytes() == image
    labels = np.asarray(Image.open(tmp_path / "moved.png"))
    Image.fromarray(labels.T.copy()[::-1].copy()).save(mask)
    with pytest.raises(UserError, match=r"000000\.png the first"):
        make(model, tmp_path / "out", **options, mask=mask)
    assert (tmp_path / "out" / "000000.png").read_bytes() == image


@pytest.mark.parametrize("left", [0.02, 0.9])
@pytest.mark.parametrize("form", ["png", "tiff", "nifti", "nrrd", "mhd", "dicom"])
def test_a_damaged_image_is_made_again(form: str, left: float, model: Path, tmp_path: Path) -> None:
    options = {"prompt": "A disc.", "modality": "Disc", "n": 2, "format": form}
    make(model, tmp_path / "out", **options)
    whole = bytes_of(tmp_path / "out")
    # Of a MetaImage the values lie in a file of their own.
    for name in (name for name in whole if name.startswith("000001")):
        (tmp_path / "out" / name).write_bytes(whole[name][: int(left * len(whole[name]))])
    (tmp_path / "out" / ".000007-0a1b2c3d.partial.png").touch()
    make(model, tmp_path / "out", **options)
    assert bytes_of(tmp_path / "out") == whole


@pytest.mark.parametrize("content", ["[]", "3", '{"options": [1]}'])
def test_a_description_of_another_type_is_one_sentence(content: str, model: Path, tmp_path: Path) -> None:
    options = {"prompt": "A disc.", "modality": "Disc"}
    make(model, tmp_path / "out", **options)
    (tmp_path / "out" / "generation.json").write_text(content)
    with pytest.raises(UserError, match=r"generation\.json (holds no values by name|is damaged)"):
        make(model, tmp_path / "out", **options)


def test_images_without_their_description_are_recognised(model: Path, tmp_path: Path) -> None:
    options = {"prompt": "A disc.", "modality": "Disc"}
    make(model, tmp_path / "out", **options)
    (tmp_path / "out" / "generation.json").unlink()
    with pytest.raises(UserError, match=r"holds images made by medloom \(000000\.png the first\) but no generation"):
        make(model, tmp_path / "out", **options)


def test_a_refused_first_start_binds_nobody(model: Path, tmp_path: Path) -> None:
    options = {"prompt": "A disc.", "modality": "Disc"}
    with pytest.raises(UserError, match=r"not finite .*--guidance 1e\+30 is too large for this model; give a lower"):
        make(model, tmp_path / "out", **options, guidance=("1e30",))
    assert not (tmp_path / "out").exists()
    # Nor does one that was killed before its first image.
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "generation.json").write_text('{"options": {"prompt": "Another."}}')
    make(model, tmp_path / "out", **options)
    with pytest.raises(UserError, match="holds images made with other options"):
        make(model, tmp_path / "out", **options, guidance=("1.5",))


@pytest.mark.parametrize("steps", [0, 99999999999999])
def test_a_number_of_steps_out_of_range_is_refused_before_anything_is_written(
    steps: int, model: Path, tmp_path: Path
) -> None:
    options = {"prompt": "A disc.", "modality": "Disc", "device": "cpu", "steps": steps}
    with pytest.raises(UserError, match=f"{steps}"):
        run_command("generate", model=model, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [{"n": 10**14, "prompt": "A disc."}, {"count": 10**14, "data": Path("c.csv")}])
def test_more_images_than_can_be_listed_are_refused_at_once(more: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--(n|count) 100000000000000: it has to be at least 1 and at most"):
        run_command("generate", model=tmp_path / "run", out=tmp_path / "out", **more)


def test_a_batch_is_generated_as_it_was(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over a batch of another size are rounded otherwise."""
    sizes: list[int] = []
    images = ImageGenerator.images

    def counted(generator: ImageGenerator, conditions: list[object], *rest: object) -> object:
        sizes.append(len(conditions))
        return images(generator, conditions, *rest)

    options = {"prompt": "A disc.", "modality": "Disc", "n": 7, "batch": 3}
    monkeypatch.setattr(ImageGenerator, "images", counted)
    make(model, tmp_path / "out", **options)
    whole = bytes_of(tmp_path / "out")
    for name in ("000001.png", "000002.png"):
        (tmp_path / "out" / name).unlink()
    make(model, tmp_path / "out", **options)
    assert sizes == [3, 3, 1, 3] and bytes_of(tmp_path / "out") == whole


@pytest.mark.parametrize("form", ["png", "tiff", "nifti", "nrrd", "mhd", "dicom"])
def test_every_format_says_what_it_was_made_from(form: str, model: Path, tmp_path: Path) -> None:
    grey = [line.replace("square", "small disc").replace("Square", "Disc") for line in TABLE]
    data = table(tmp_path / "c.csv", grey)
    make(model, tmp_path / "out", data=data, format=form)
    first = bytes_of(tmp_path / "out")
    image = tmp_path / "out" / next(name for name in first if name.startswith("000000"))
    said = read_provenance(image)
    assert said["seed"] == "0" and all(len(said[name]) == 16 for name in ("model", "condition", "options"))
    make(model, tmp_path / "out", data=data, format=form)
    assert bytes_of(tmp_path / "out") == first
    table(data, [grey[0], grey[2], *grey[1:]])
    with pytest.raises(UserError, match="made from other rows"):
        make(model, tmp_path / "out", data=data, format=form)


def test_an_edit_of_another_image_under_the_same_name_is_refused(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    folder = make_manifest().parent
    lines = ["path,prior,instruction,modality,patient_id"]
    lines += [f"{n}.png,{n + 2}.png,The disc moved.,Disc,p{n}" for n in range(0, 8, 2)]
    triples = table(folder / "triples.csv", lines)
    model = run_command("train edit", data=triples, out=tmp_path / "run", **tiny_options)
    prior, region = tmp_path / "prior.png", tmp_path / "region.png"
    shutil.copy(folder / "0.png", prior)
    Image.fromarray(np.ones((16, 16), np.uint8)).save(region)
    options = {"model": model, "out": tmp_path / "out", "image": prior, "text": "The disc moved.", "modality": "Disc"}
    options |= {"steps": 2, "region": region}
    run_command("edit", **options)
    before = bytes_of(tmp_path / "out")
    run_command("edit", **options)
    assert bytes_of(tmp_path / "out") == before
    Image.fromarray(np.eye(16, dtype=np.uint8)).save(region)
    with pytest.raises(UserError, match="made from other rows, files or options"):
        run_command("edit", **options)
    Image.fromarray(np.ones((16, 16), np.uint8)).save(region)
    shutil.copy(folder / "2.png", prior)
    with pytest.raises(UserError, match="made from other rows, files or options"):
        run_command("edit", **options)
    assert bytes_of(tmp_path / "out") == before
    # In a table too.
    edits = table(tmp_path / "edits.csv", ["prior,instruction,modality", "prior.png,The disc moved.,Disc"])
    run_command("edit", model=model, out=tmp_path / "all", data=edits, steps=2)
    shutil.copy(folder / "4.png", prior)
    with pytest.raises(UserError, match="made from other rows, files or options"):
        run_command("edit", model=model, out=tmp_path / "all", data=edits, steps=2)
