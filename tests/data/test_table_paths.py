"""Paths in tables lead to their files: through links of stores by content, from other systems, and after a move."""

import unicodedata
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medloom.data.inspection import inspect_images
from medloom.data.manifest import inspect_manifest, read_manifest
from medloom.data.paths import located, portable


def test_links_into_a_store_keep_their_names(tmp_path: Path) -> None:
    """As caches of data sets and git-annex lay files out: the format goes by the name in the table."""
    store, names = tmp_path / "blobs", tmp_path / "snapshot"
    store.mkdir()
    names.mkdir()
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(store / "0a1b")
    nibabel.save(nibabel.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4)), tmp_path / "v.nii.gz")
    (tmp_path / "v.nii.gz").rename(store / "2c3d")
    (names / "0.png").symlink_to(store / "0a1b")
    (names / "1.nii.gz").symlink_to(store / "2c3d")
    (tmp_path / "m.csv").write_text("path,Text,patient_id,modality\nsnapshot/0.png,a,1,X\nsnapshot/1.nii.gz,b,2,MR\n")
    manifest = read_manifest(tmp_path / "m.csv")
    assert [sample.path.name for sample in manifest.samples()] == ["0.png", "1.nii.gz"]
    assert not inspect_images(manifest, decode=True).problems
    (store / "0a1b").unlink()
    assert "a link that leads nowhere" in inspect_manifest(tmp_path / "m.csv").problems[0].reason


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_backslashes_and_other_forms_of_letters(tmp_path: Path, form: str) -> None:
    (tmp_path / "bilder").mkdir()
    name = unicodedata.normalize(form, "größe.png")
    Image.new("L", (4, 4)).save(tmp_path / "bilder" / name)
    for other in ("NFC", "NFD"):
        cell = unicodedata.normalize(other, "bilder\\größe.png")
        assert Path(located(tmp_path, cell)).exists()
    missing = inspect_table(tmp_path, "bilder\\nothing.png")
    assert "folders are separated by / here, not by a backslash" in missing


def inspect_table(folder: Path, cell: str) -> str:
    (folder / "m.csv").write_text(f"path,Text,patient_id\n{cell},a,1\n")
    return inspect_manifest(folder / "m.csv").problems[0].reason


def test_paths_are_relative_where_they_can_be(tmp_path: Path) -> None:
    assert portable(str(tmp_path / "images" / "a.png"), tmp_path / "split") == "../images/a.png"
    assert portable(str(tmp_path / "a.png"), tmp_path) == "a.png" and portable(None, tmp_path) is None
    assert portable("/somewhere/a.png", tmp_path) == "/somewhere/a.png"
