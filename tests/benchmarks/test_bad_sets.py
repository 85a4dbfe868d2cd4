"""Every bad set is what its name says, and only copies are of training images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.bad_sets import _reasons
from benchmarks.drawings import write_drawings
from benchmarks.spoiled import BAD, Dealt
from medloom.data.manifest import read_manifest


@pytest.fixture(scope="module")
def dealt(tmp_path_factory: pytest.TempPathFactory) -> Dealt:
    folder = tmp_path_factory.mktemp("bad")
    table = read_manifest(write_drawings(folder / "data", 72, 32, seed=0)).frame
    rows = table[["path", "patient_id", "modality", "label"]].sample(frac=1, random_state=0)
    return Dealt(rows[:24], rows[24:48], rows[48:], folder, 0)


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), float)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_set_has_other_files_or_other_classes(name: str, dealt: Dealt) -> None:
    made = BAD[name](dealt, name)
    assert list(made.columns) == list(dealt.fresh.columns) and len(made)
    assert all(Path(path).is_file() for path in made["path"])
    assert not set(made["path"]) & {*dealt.train["path"], *dealt.real["path"]}
    pd.testing.assert_frame_equal(made, BAD[name](dealt, name))


def test_copies_are_of_the_images_that_are_named(dealt: Dealt) -> None:
    for name, near in (("copied, JPEG of quality 30", 12), ("copied, mirrored", 0)):
        made = BAD[name](dealt, name)
        for path, original in zip(made["path"], dealt.train["path"], strict=True):
            laid = pixels(path)[:, ::-1] if "mirrored" in name else pixels(path)
            assert np.abs(laid - pixels(original)).mean() <= near


def test_fractions_and_repeats_are_those_of_the_names(dealt: Dealt) -> None:
    fresh = set(dealt.fresh["path"])
    for name, copies in (("5 % copied", 1), ("50 % copied", 12)):
        made = BAD[name](dealt, name)
        assert (len(made), sum(path not in fresh for path in made["path"])) == (24, copies)
    assert len(BAD["each image five times"](dealt, "each image five times")) == 120
    counts = dealt.fresh["label"].value_counts()
    assert len(BAD["one class"](dealt, "one class")) == counts.max()


def test_reasons_name_each_metric_once() -> None:
    lines = ["FAIL: a of all by x 1 [0, 2], reference 0", "FAIL: a of all by y 3, reference 0", "NOT SHOWN: b of all 1"]
    assert _reasons(lines) == "FAIL: a of all by x 1 [0, 2]; NOT SHOWN: b of all 1"
