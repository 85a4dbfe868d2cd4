"""The report: scores.json has the schema, report.html stands alone and shows no real image."""

import base64
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medloom.core.errors import UserError
from medloom.core.plots import flat, planar, planes_of
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.evaluation.copies.evidence import Unrelated
from medloom.evaluation.images import alignment, copies, fidelity
from medloom.evaluation.images.copies import Pair, write_pairs
from medloom.evaluation.images.copy_search import CopySearch
from medloom.evaluation.images.page import images_page, synthetic_strips
from medloom.evaluation.images.section import Found
from medloom.evaluation.images.sets import ImageSet, synthetic_set
from medloom.evaluation.report.metrics import Metric, Reference
from medloom.evaluation.report.plots import strip
from medloom.evaluation.report.report import Report, report_folder

sys.path.insert(0, str(Path(__file__).parent))
from drawn import drawn_set, read

WINDOW = Intensity("window", GREY, 0, 255)
SPEC = ImageSpec((16, 16), 1, "pad", {"dark": WINDOW, "light": WINDOW})


def metric(name: str, subset: str = "all", extractor: str = "classifier") -> Metric:
    reference = Reference("real against real", 0.5, 0.4, 0.6, 30)
    return Metric(name, subset, 0.25, 0.2, 0.3, 60, "images", reference, "higher", extractor, "a <note>")


FOUND = {
    "fidelity": Found([metric(name, subset) for name in fidelity.MEASURED for subset in ("all", "dark")]),
    "alignment": Found([metric(alignment.RECOGNITION, subset, "") for subset in ("all", "disc")]),
    "copies": Found([metric(name) for name in (copies.COPIED, copies.EXCESS, copies.IDENTICAL)]),
}


def report(found: dict[str, Found]) -> Report:
    row = {"name": "synthetic", "file": "s.csv", "role": "in question", "images": 8, "units": 4, "counted": "prompts"}
    row |= {"modalities": {"dark": 8}, "pixels": "16 x 16", "stored": "PNG, 8 bit, grey", "levels": "0 to 90 %"}
    made = Report(notes=["<script>"], facts={"sets": [row], "extractors": {"x": "p"}})
    for name, own in found.items():
        made.add(name, own.metrics)
    return made


@pytest.fixture
def synthetic(tmp_path: Path) -> ImageSet:
    return synthetic_set(read(drawn_set(tmp_path / "s", 24, 0), False), "label")


@pytest.fixture
def out(tmp_path: Path, synthetic: ImageSet) -> Path:
    made = report(FOUND)
    with report_folder(tmp_path / "out") as folder:
        made.write(folder, images_page(made, FOUND, synthetic_strips(synthetic, SPEC, None)))
    return folder


def pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in found]


def test_every_metric_has_value_interval_n_and_reference(out: Path) -> None:
    scores = json.loads((out / "scores.json").read_text())
    assert scores["finished"] and scores["schema"] == 1 and len(scores["metrics"]) == 19
    for entry in scores["metrics"]:
        assert {"name", "value", "low", "high", "n", "counted", "reference", "reading", "section"} <= set(entry)
        assert {"value", "low", "high", "n", "what", "by_chance"} == set(entry["reference"])


def test_the_page_stands_alone(out: Path) -> None:
    page = (out / "report.html").read_text()
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|//|<link|<script|@import|url\(", text)
    assert "SYNTHETIC" in text and "&lt;script&gt;" in text and "a &lt;note&gt;" in text
    assert len(pictures(page)) == 3 + 2
    HTMLParser().feed(page)


def test_copies_are_named_in_a_file_of_their_own(tmp_path: Path) -> None:
    pair = Pair("a training image", Path("s.png"), Path("train.png"), 9.125, 0.99, "mirrored, inverted")
    write_pairs(tmp_path / "copies.csv", [pair])
    written = (tmp_path / "copies.csv").read_text().splitlines()[-1]
    assert written == 'a training image,s.png,train.png,9.12,0.9900,"mirrored, inverted"'


def test_strips_are_of_synthetic_images_and_say_so(out: Path, synthetic: ImageSet) -> None:
    page = (out / "report.html").read_text()
    # Thumbnails of 128 pixels, each twice as large; they stand before the plots.
    strips = pictures(page)[:2]
    assert all(strip.shape[0] > 256 and 8 * 256 < strip.shape[1] < 8 * 274 for strip in strips)
    encoded = re.findall(r"base64,([A-Za-z0-9+/=]+)", page)[0]
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).info["SYNTHETIC"] == "YES"
    assert "disc (12 images)" in page


def test_sections_without_metrics_are_left_out() -> None:
    only = {name: own if name == "fidelity" else Found([]) for name, own in FOUND.items()}
    page = images_page(report(only), only, [])
    assert "Fidelity</h2>" in page and "Copies</h2>" not in page and "Alignment</h2>" not in page


def test_a_folder_is_marked_before_anything_is_measured(tmp_path: Path) -> None:
    with report_folder(tmp_path):
        assert json.loads((tmp_path / "scores.json").read_text()) == {"finished": False, "schema": 1}


def test_a_damaged_file_of_matches_is_named(tmp_path: Path, synthetic: ImageSet) -> None:
    members = synthetic.rows(range(8))
    search = CopySearch(SPEC, None, tmp_path, 0, 8)
    unrelated = [Unrelated(0.0, 1.0, 0.1, 30)] * 9
    first = search.among(members, members, unrelated)
    kept, _ = (tmp_path / "matches").glob("*/*.npz")
    assert np.array_equal(search.among(members, members, unrelated).rows, first.rows)
    kept.write_bytes(kept.read_bytes()[:200])
    with pytest.raises(UserError, match=r"\.npz is not a file of matches .*; remove it"):
        search.among(members, members, unrelated)


def test_volumes_are_shown_in_three_planes_with_their_names() -> None:
    volume = np.full((1, 12, 16, 20), -1, np.float32)
    # The patient's right, front and head in RAS order: at the upper left of each plane.
    volume[:, 6:, 8:, 10:] = 1
    for axis, (rows, columns) in enumerate(((20, 16), (20, 12), (16, 12))):
        shown = planar(volume, axis)
        assert shown.shape == (1, rows, columns) and (shown[0, : rows // 2, : columns // 2] == 1).all()
        assert (shown == 1).mean() == 0.25
    np.testing.assert_array_equal(flat(volume, 10), planar(volume, 2))
    one, three = (Image.open(io.BytesIO(strip([own]))) for own in (flat(volume), volume))
    assert three.height > one.height + 2 * 150 and three.width > one.width
    assert list(planes_of(True)) == ["axial", "coronal", "sagittal"]
    assert list(planes_of(False)) == ["across axis 1", "across axis 2", "across axis 3"]
    assert strip([volume]) != strip([volume], oriented=False)
