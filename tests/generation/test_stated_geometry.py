"""Where generated 2-D images lie: spacing in DICOM as it is known or none, and images that belong together."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import TINY
from PIL import Image as Picture

from medloom.core.image import Image
from medloom.core.spec import GREY, HU
from medloom.core.types import Condition
from medloom.data.images import read_image, write_image
from medloom.data.tables import read_table
from medloom.generation.geometry import located, sides
from medloom.generation.options import GenerationOptions
from medloom.generation.produce import load_model
from medloom.generation.requests import Request, Source
from medloom.recipes.commands import run_command

SIZE = (48, 24)
# Rows lead to the back in steps of 1.5 mm, columns to the left in steps of 0.5 mm.
AFFINE = np.array([[0, -0.5, 0, 20.0], [-1.5, 0, 0, 30.0], [0, 0, 4.0, -7.0], [0, 0, 0, 1]])
TEMPLATE = "columns:\n  kind: {values: {dark: dark, bright: bright}}\n  age: {unit: years, say: ''}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CT slices as DICOM with masks as PNG, which state no spacing, and a run that was trained on them."""
    root, rng = tmp_path_factory.mktemp("ct"), np.random.default_rng(0)
    lines = ["path,patient_id,modality,view,Text,kind,age,mask"]
    for number in range(10):
        mask = np.zeros(SIZE, np.uint8)
        mask[8:40, 6 : 18 + number] = 1
        values = np.where(mask, 50, -900) + rng.integers(-20, 20, SIZE)
        image = Image(values[None].astype(np.float32), HU, spacing=(1.5, 0.5), affine=AFFINE)
        write_image(root / f"{number}.dcm", image, {})
        Picture.fromarray(mask).save(root / f"{number}.png")
        kind = ("dark", "bright")[number % 2]
        lines.append(f"{number}.dcm,p{number},CT,axial,{kind},{kind},{40 + number},{number}.png")
    (root / "data.csv").write_text("\n".join(lines) + "\n")
    (root / "template.yaml").write_text(TEMPLATE)
    options = {**TINY, "network.mask": "channels", "network.mask_classes": [1], "loop.steps": 1, "loop.warmup": 0}
    run_command("train text2image", data=root / "data.csv", out=root / "run", **options)
    return root


def generate(folder: Path, out: Path, **options: object) -> list[pydicom.Dataset]:
    given = {"model": folder / "run", "data": folder / "data.csv", "steps": 1, "device": "cpu", **options}
    command = "whatif" if "set" in options else "generate"
    manifest = run_command(command, out=out, **given)
    table = read_table(manifest)
    place = table.header.index("path")
    return [pydicom.dcmread(out / row[place]) for row in table.rows]


def test_the_spacing_of_a_resized_image_is_that_of_its_mask_s_image(folder: Path, tmp_path: Path) -> None:
    data = generate(folder, tmp_path / "out")[0]
    assert data.SOPClassUID.name == "CT Image Storage" and (data.Rows, data.Columns) == (16, 16)
    # 48 x 24 pixels are padded to 48 x 48, which become 16 x 16.
    assert list(data.PixelSpacing) == [4.5, 1.5] and data.SliceThickness == 4
    made = read_image(tmp_path / "out" / "000000.dcm")
    centre = made.affine @ [7.5, 7.5, 0, 1]
    np.testing.assert_allclose(centre, AFFINE @ [23.5, 11.5, 0, 1], atol=1e-6)
    np.testing.assert_allclose(made.affine[:3, :3] / 3, [[0, -0.5, 0], [-1.5, 0, 0], [0, 0, 4 / 3]], atol=1e-6)


def test_without_a_known_spacing_none_is_written(folder: Path, tmp_path: Path) -> None:
    """Masks alone, and rows whose own images are damaged or on another grid, say nothing of millimetres."""
    lines = (folder / "data.csv").read_text().splitlines()
    (tmp_path / "alone.csv").write_text("\n".join(line.partition(",")[2] for line in lines))
    (tmp_path / "0.dcm").write_bytes(b"damaged")
    other = Image(np.ones((1, 9, 9), np.float32), HU, spacing=(1.5, 0.5), affine=AFFINE)
    write_image(tmp_path / "1.dcm", other, {})
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    (tmp_path / "rows.csv").write_text("\n".join(lines[:3]))
    for name in ("alone.csv", "rows.csv"):
        for data in generate(folder, tmp_path / name.partition(".")[0], data=tmp_path / name):
            assert data.SOPClassUID.name == "Secondary Capture Image Storage" and data.Modality == "CT"
            absent = ("PixelSpacing", "NominalScannedPixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
            assert not [keyword for keyword in (*absent, "SliceThickness") if keyword in data]
    made = read_image(tmp_path / "rows" / "000000.dcm")
    assert made.unit == HU and made.spacing is None and made.affine is None and made.pixels.min() < -100


def test_a_prior_image_gives_its_spacing_and_its_directions(folder: Path, tmp_path: Path) -> None:
    """A projection states no position, but where its rows lead; an edit of it does too."""
    reader = load_model(GenerationOptions(model=folder / "run", out=tmp_path, device="cpu")).generator.reader
    projection = Image(np.ones((1, *SIZE), np.float32), GREY, 255.0, spacing=(0.2, 0.2), directions=("L", "F"))
    write_image(tmp_path / "cxr.dcm", projection, {})
    read = read_image(tmp_path / "cxr.dcm")
    assert (read.spacing, read.directions) == ((0.2, 0.2), ("L", "F"))
    mask = folder / "0.png"
    both = Condition(modality="CT", mask=mask, prior=tmp_path / "cxr.dcm")
    assert reader.reference(both).directions == ("L", "F"), "a mask that states nothing leaves it to the prior image"
    assert reader.reference(Condition(modality="CT", mask=mask)).spacing is None
    assert sides(reader, Request(0, both, 0, Source())) == ("R", "L")
    assert sides(reader, Request(0, Condition(modality="CT", mask=mask), 0, Source())) is None
    request = Request(0, Condition(modality="CT", mask=mask), 0, Source(image=folder / "0.dcm"))
    assert sides(reader, request) == ("R", "L") and located(reader, request).mask.spacing == (1.5, 0.5)
    assert request.condition.mask == mask, "the condition that is written and hashed stays as it is"


def test_a_row_is_a_study_and_an_arm_a_series_in_it(folder: Path, tmp_path: Path) -> None:
    given = {"set": ("kind=dark", "kind=bright"), "rows": 2, "n": 2}
    made = generate(folder, tmp_path / "a", **given)
    assert len(made) == 12 and len({data.SOPInstanceUID for data in made}) == 12
    studies = [data.StudyInstanceUID for data in made]
    assert len(set(studies)) == 2 and studies[0] == studies[5] != studies[6]
    series = {(data.StudyInstanceUID, data.SeriesInstanceUID) for data in made}
    assert len(series) == len({uid for _, uid in series}) == 6
    for uid in {data.SeriesInstanceUID for data in made}:
        own = [data for data in made if data.SeriesInstanceUID == uid]
        assert [int(data.InstanceNumber) for data in own] == [1, 2]
        assert len({data.FrameOfReferenceUID for data in own}) == 1
    again, others = generate(folder, tmp_path / "b", **given), generate(folder, tmp_path / "c", **given, seed=5)
    assert [data.SeriesInstanceUID for data in again] == [data.SeriesInstanceUID for data in made]
    assert not {data.SeriesInstanceUID for data in others} & {data.SeriesInstanceUID for data in made}


def test_whole_numbers_are_written_as_such(folder: Path, tmp_path: Path) -> None:
    given = {"set": ("kind=dark",), "rows": 2, "n": 1}
    generate(folder, tmp_path / "a", **given)
    table = read_table(tmp_path / "a" / "manifest.csv")
    assert [row[table.header.index("age")] for row in table.rows] == ["40", "40", "41", "41"]
