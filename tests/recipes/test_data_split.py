"""`data split`: shares of every value, nothing overwritten, and no part that is silently empty."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from medloom.core.errors import UserError
from medloom.data.manifest import read_manifest
from medloom.recipes import data_split


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """60 patients with one or two images: two in three of CT, four of OCT, the rest of MR."""
    lines = ["path,Text,patient_id,modality,finding"]
    for patient in range(60):
        modality = "OCT" if patient < 4 else "CT" if patient % 3 else "MR"
        for visit in range(1 + patient % 2):
            Image.new("L", (4, 4), patient).save(tmp_path / f"{patient}-{visit}.png")
            lines.append(f"{patient}-{visit}.png,t,p{patient},{modality},{'rare' if patient % 20 == 9 else 'usual'}")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "m.csv"


def split(table: Path, **given: object) -> Path:
    return data_split.run(data_split.Config(**{"data": table, "out": table.parent / "split", **given}))


def patients(out: Path, part: str) -> dict[str, set[str]]:
    """Patients of a part by modality and by finding."""
    frame = read_manifest(out / ("test.csv" if part == "test" else "train.csv")).frame
    frame = frame[frame["split"] == part]
    return {
        value: set(frame.loc[frame[column] == value, "patient_id"])
        for column in ("modality", "finding")
        for value in frame[column].unique()
    }


@pytest.mark.parametrize("seed", range(5))
def test_every_part_has_its_share_of_every_value(table: Path, seed: int) -> None:
    out = split(table, out=table.parent / f"s{seed}", seed=seed, validation=0.2, test=0.2)
    for part, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        found = patients(out, part)
        assert len(found["CT"] | found["MR"] | found["OCT"]) == round(60 * share)
        assert 1 <= len(found["OCT"]) <= 2 and 1 <= len(found["rare"]) <= 2
        assert abs(len(found["CT"]) - 37 * share) <= 1.5
    everyone = [
        patient for part in ("train", "validation", "test") for patient in set().union(*patients(out, part).values())
    ]
    assert len(everyone) == len(set(everyone)) == 60


def test_a_part_that_lacks_a_value_is_said(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    table.write_text(table.read_text().replace("p0,OCT", "p0,US"))
    with caplog.at_level("INFO", "medloom"):
        split(table)
    assert "has no image with modality US; too few patients have it." in caplog.text


def test_the_same_split_may_be_made_again_and_no_other(table: Path) -> None:
    out = split(table)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert split(table) == out
    with pytest.raises(UserError, match="holds another split"):
        split(table, test=0.4)
    with pytest.raises(UserError, match="would overwrite"):
        split(out / "train.csv", out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_no_patient_is_split_by_its_images(table: Path) -> None:
    for path in table.parent.glob("*-1.png"):
        Image.new("L", (4, 4), 255 - int(path.stem[:-2])).save(path)
    with pytest.raises(UserError, match=r"by column 'patient_id' 30 of 60 patients have several images"):
        split(table, images_are_patients=True)
    assert not (table.parent / "split").exists()


def test_a_negative_seed_is_refused(table: Path) -> None:
    with pytest.raises(UserError, match=r"--seed -1 is out of range"):
        split(table, seed=-1)


def test_a_folder_of_something_else_is_refused(table: Path) -> None:
    (table.parent / "other").mkdir()
    (table.parent / "other" / "train.csv").write_text("mine")
    with pytest.raises(UserError, match="already has other content"):
        split(table, out=table.parent / "other")
    assert (table.parent / "other" / "train.csv").read_text() == "mine"


def test_a_column_split_without_rows_for_a_share_is_refused(table: Path) -> None:
    out = split(table)
    with pytest.raises(UserError, match="its column 'split' gives no row to test; leave the column out"):
        split(out / "train.csv", out=table.parent / "again")
    assert not (table.parent / "again").exists()
    assert split(out / "train.csv", out=table.parent / "again", test=0.0).is_dir()


def test_tables_of_a_split_can_be_moved_with_their_images(
    table: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    split(table)
    moved = tmp_path_factory.mktemp("else") / "where"
    table.parent.rename(moved)
    manifest = read_manifest(moved / "split" / "train.csv")
    assert all(sample.path.parent == moved for sample in manifest.samples())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stratify": ("findings",)}, "did you mean 'finding'"),
        ({"stratify": ("text",)}, None),
        ({"test": 1.0}, "together below 1"),
    ],
)
def test_options(table: Path, given: dict[str, object], message: str | None) -> None:
    run: Callable[[], Path] = lambda: split(table, **given)  # noqa: E731
    if message is None:
        assert run().is_dir()
        return
    with pytest.raises(UserError, match=message):
        run()
