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

from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.evaluation.images import alignment, detail, fidelity, lint, membership, privacy, variety
from medloom.evaluation.images.privacy import Copy
from medloom.evaluation.images.report import MEANINGS, PANELS, Evaluation, begin_report, render, write_report
from medloom.evaluation.images.sets import ImageSet, synthetic_set
from medloom.evaluation.report.metrics import Figure, Reference

sys.path.insert(0, str(Path(__file__).parent))
from drawn import drawn_set, read

WINDOW = Intensity("window", GREY, 0, 255)
SPEC = ImageSpec((16, 16), 1, "pad", {"dark": WINDOW, "light": WINDOW})


def figure(section: str, metric: str, subset: str = "all", extractor: str = "classifier") -> Figure:
    reference = Reference("real against real", 0.5, 0.4, 0.6, 30)
    return Figure(section, metric, subset, 0.25, 0.2, 0.3, 60, "images", reference, "higher", extractor, "a <note>")


def evaluation(copies: list[Copy]) -> Evaluation:
    figures = [figure("fidelity", metric, subset) for metric in fidelity.BOUNDS for subset in ("all", "dark")]
    figures += [figure("alignment", alignment.RECOGNITION, subset, "") for subset in ("all", "disc")]
    figures += [figure("privacy", metric) for metric in (privacy.COPIED, privacy.EXCESS, privacy.IDENTICAL)]
    table = {"name": "synthetic", "file": "s.csv", "role": "in question", "images": 8, "units": 4, "counted": "prompts"}
    return Evaluation(figures, ["<script>"], [{**table, "modalities": {"dark": 8}}], {"classifier": "p"}, {}, copies)


@pytest.fixture
def synthetic(tmp_path: Path) -> ImageSet:
    return synthetic_set(read(drawn_set(tmp_path / "s", 24, 0), False), "label")


@pytest.fixture
def out(tmp_path: Path, synthetic: ImageSet) -> Path:
    copies = [Copy("classifier", synthetic.samples[0].path, Path("secret-train.png"), 0.99)]
    write_report(tmp_path / "out", evaluation(copies), synthetic, SPEC, None)
    return tmp_path / "out"


def pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in found]


def test_every_figure_has_value_interval_n_and_reference(out: Path) -> None:
    scores = json.loads((out / "scores.json").read_text())
    assert scores["finished"] and scores["schema"] == 1 and len(scores["figures"]) == 19
    for entry in scores["figures"]:
        assert {"value", "low", "high", "n", "counted", "reference", "reading"} <= set(entry)
        assert {"value", "low", "high", "n", "what"} == set(entry["reference"])
    assert scores["copies"] == {"pairs": 1, "file": "copies-internal.csv"}


def test_the_page_stands_alone(out: Path) -> None:
    page = (out / "report.html").read_text()
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|//|<link|<script|@import|url\(", text)
    assert "SYNTHETIC" in text and "&lt;script&gt;" in text and "a &lt;note&gt;" in text
    assert len(pictures(page)) == 3 + 2
    HTMLParser().feed(page)


def test_it_names_no_training_image(out: Path) -> None:
    assert "secret-train" not in (out / "report.html").read_text() + (out / "scores.json").read_text()
    assert "secret-train.png,0.990000" in (out / "copies-internal.csv").read_text()


def test_strips_are_of_synthetic_images_and_say_so(out: Path, synthetic: ImageSet) -> None:
    page = (out / "report.html").read_text()
    strips = [strip for strip in pictures(page) if strip.shape[0] == 96]
    assert len(strips) == 2 and all(strip.shape == (96, 8 * 98 - 2, 3) for strip in strips)
    encoded = re.findall(r"base64,([A-Za-z0-9+/=]+)", page)[-1]
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).info["SYNTHETIC"] == "YES"
    assert "disc (12 images)" in page


def test_sections_without_figures_are_left_out() -> None:
    only = evaluation([])
    del only.figures[10:]
    page = render(only, [])
    assert "Fidelity</h2>" in page and "Privacy</h2>" not in page and "Alignment</h2>" not in page


def test_a_folder_is_marked_before_anything_is_measured(tmp_path: Path) -> None:
    begin_report(tmp_path)
    assert json.loads((tmp_path / "scores.json").read_text()) == {"finished": False, "schema": 1}


def test_every_metric_has_a_meaning() -> None:
    for module in (fidelity, alignment, privacy, lint):
        assert module.SECTION in PANELS
    named = {fidelity.FD_INFINITY, *fidelity.BOUNDS, privacy.COPIED, privacy.EXCESS, privacy.IDENTICAL}
    named |= {privacy.BY_PATIENT, privacy.AUTHENTIC, privacy.DISTANCE, variety.SIMILARITY, variety.SCORE, *lint.KINDS}
    named |= {membership.ATTACK, membership.HALVES, membership.BLIND, membership.FOUND}
    named |= {alignment.RECOGNITION, alignment.SHUFFLED, alignment.UTILITY, alignment.UTILITY_SHARE}
    named |= {detail.DETAIL}
    assert named == set(MEANINGS)
