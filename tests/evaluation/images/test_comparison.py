"""Which classes an evaluation can judge, and which column it takes for the class."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from drawn import drawn_set

from medloom.data.manifest import Manifest, read_manifest
from medloom.evaluation.images.comparison import Comparison, compare


def read(path: Path, old: str = "", new: str = "", times: int = 1) -> Manifest:
    path.write_text(path.read_text().replace(old, new, times) if old else path.read_text())
    return read_manifest(path, need=("path",), need_patients=False)


def put_together(real: Manifest, synthetic: Manifest, label: str) -> Comparison:
    return compare(real, synthetic, None, label=label, image_size=(16,), resize="pad", seed=0)


def test_classes_that_cannot_be_judged_are_named_and_left_out(tmp_path: Path) -> None:
    real = read(drawn_set(tmp_path / "real", 60, 1), ",square,", ",rare,")
    synthetic = read(drawn_set(tmp_path / "synthetic", 40, 2, patients=False), ",disc,", ",star,", 3)
    data = put_together(real, synthetic, "label")
    assert data.label == "label" and set(data.synthetic.labels) == {"disc", "square", None}
    assert data.synthetic.labels.count(None) == 3 and set(data.real.labels) <= {"disc", "square", None}
    said = " ".join(data.notes)
    assert "left out of alignment: rare, star. 3 synthetic images are of these classes." in said
    assert "have none" not in said


def test_a_free_column_is_not_taken_for_the_class(tmp_path: Path) -> None:
    real = read(drawn_set(tmp_path / "real", 60, 1))
    synthetic = read(drawn_set(tmp_path / "synthetic", 40, 2, patients=False))
    assert put_together(real, synthetic, "auto").label == "label"
    free = read(synthetic.source, ",disc,", ",free text of one image,")
    assert put_together(real, free, "auto").label == "modality"


def test_synthetic_images_of_one_class_are_known_by_it(tmp_path: Path) -> None:
    real = read(drawn_set(tmp_path / "real", 60, 1))
    one, other = (read(drawn_set(tmp_path / name, 40, 2, patients=False)) for name in ("one", "other"))
    one.frame["label"], other.frame["label"] = "disc", "generated"
    assert put_together(real, one, "auto").label == "label"
    assert put_together(real, other, "auto").label == "modality"


def test_one_class_with_enough_patients_is_no_class(tmp_path: Path) -> None:
    real = read(drawn_set(tmp_path / "real", 60, 1))
    synthetic = read(drawn_set(tmp_path / "synthetic", 40, 2, patients=False))
    frame = real.frame
    frame["label"] = ["disc"] * (len(frame) - 1) + ["square"]
    data = put_together(real, synthetic, "label")
    assert (data.label, data.fit) == ("none", None)
    assert "The class would be 'label', but fewer than two of its values have enough real patients." in data.notes


@pytest.mark.parametrize(("given", "size"), [((), (32, 32, 32)), ((16,), (16, 16, 16)), ((20, 18, 16), (20, 18, 16))])
def test_volumes_have_three_axes_without_being_told(
    given: tuple[int, ...], size: tuple[int, ...], tmp_path: Path
) -> None:
    voxels, rows = np.random.default_rng(0).normal(0, 100, (4, 24, 24, 24)).astype(np.float32), []
    for number, volume in enumerate(voxels):
        nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / f"{number}.nii.gz")
        rows.append(f"{number}.nii.gz,CT,p{number}")
    sets = []
    for name, own in (("real", rows[:2]), ("synthetic", rows[2:])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,modality,patient_id", *own]) + "\n")
        sets.append(read(tmp_path / f"{name}.csv"))
    data = compare(*sets, None, label="none", image_size=given, resize="pad", seed=0, unit="HU", set_apart=False)
    assert data.spec.size == size
