"""Sections and metrics are tables: a new one is one function and one row, and is then everywhere."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import medloom.metrics
from medloom.cli.main import main
from medloom.evaluation.images import sections
from medloom.evaluation.images.section import NEEDS, Found, Inputs, Section
from medloom.evaluation.report.metrics import Metric, Reference
from medloom.evaluation.report.plots import Panel
from medloom.metrics import FEATURES, METRICS, MetricInfo
from medloom.metrics.uncertainty import bootstrap_mean

sys.path.insert(0, str(Path(__file__).parent))
from drawn import drawn_set

DOCS = Path(__file__).parents[3] / "docs"
CONTRAST = "contrast"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("sets")
    real, made = drawn_set(root / "real", 60, 1), drawn_set(root / "made", 40, 2, patients=False)
    given = {"real": real, "synthetic": made, "label": "none", "features": "pixels", "cache": root / "cache"}
    (root / "settings.yaml").write_text("edited_images: 4\n")
    given["config"] = root / "settings.yaml"
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["evaluate", "images", *options, "--image-size", "16", "--device", "cpu"]


def measure_contrast(inputs: Inputs) -> Found:
    ours, theirs = (
        bootstrap_mean(inputs.cache.images(members).std(axis=(1, 2, 3)).astype(float), members.units, inputs.seed)
        for members in (inputs.data.synthetic, inputs.data.real)
    )
    return Found([Metric.of(ours, name="grey level spread", counted="images", reference=Reference.of(theirs, "real"))])


def test_a_section_is_one_function_and_one_row(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = Section(
        heading="Contrast of images",
        question="Do synthetic images have the contrast of real ones?",
        metrics={"grey level spread": "standard deviation of grey levels"},
        measure=measure_contrast,
        plots=lambda metrics: [("contrast", [Panel("spread", [(m.subset, m) for m in metrics])])],
    )
    monkeypatch.setitem(sections.SECTIONS, CONTRAST, section)
    gate = tmp_path / "gate.yaml"
    gate.write_text("- {metric: grey level spread, value_at_most: 0.0}")
    given = [*words, "--out", str(tmp_path / "out"), "--gate", str(gate)]
    assert main([*given, "--only", CONTRAST]) == 3
    assert "FAIL: grey level spread of all" in capsys.readouterr().err
    (metric,) = json.loads((tmp_path / "out" / "scores.json").read_text())["metrics"]
    assert (metric["section"], metric["name"]) == (CONTRAST, "grey level spread") and metric["low"] < metric["high"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Contrast of images</h2>" in page and section.question in page and page.count("<figure>") == 1
    assert main([*given, "--only", "contrats"]) == 2
    assert "unknown section in --only 'contrats', did you mean 'contrast'?" in capsys.readouterr().err
    lacking = replace(section, lacking=lambda data: f"there are {len(data.real)} real images and it needs 99")
    monkeypatch.setitem(sections.SECTIONS, CONTRAST, lacking)
    assert main([*given, "--only", CONTRAST]) == 2
    assert "contrast cannot be measured: there are 60 real images and it needs 99." in capsys.readouterr().err
    for name in set(sections.SECTIONS) - {CONTRAST, "fidelity"}:
        monkeypatch.delitem(sections.SECTIONS, name)
    assert main([*words, "--out", str(tmp_path / "all")]) == 0
    assert "contrast was left out: there are 60 real images and it needs 99." in capsys.readouterr().err


def mean_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Distance of the means of two sets of features."""
    return float(np.linalg.norm(x.mean(axis=0) - y.mean(axis=0)))


def test_a_metric_is_one_function_and_one_row(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(METRICS, "mean_distance", MetricInfo(mean_distance, FEATURES, "lower", 0.0, source="here"))
    assert medloom.metrics.mean_distance is medloom.metrics.metric("mean_distance") is mean_distance
    gate = tmp_path / "gate.yaml"
    gate.write_text("- {metric: mean_distance, features: pixels, value_at_most: 9}")
    given = [*words, "--only", "fidelity", "--out", str(tmp_path / "out"), "--gate", str(gate)]
    # Discs and rings on average are as far from others as their mean image is: the rule has no power.
    assert main([*given, "--metrics", "mean_distance"]) == 3
    assert "a set made without a model meets it too" in capsys.readouterr().err
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["metrics"]
    found = next(metric for metric in scores if (metric["name"], metric["subset"]) == ("mean_distance", "all"))
    assert 0 <= found["low"] <= found["value"] <= found["high"] and found["n"] == found["reference"]["n"] == 30
    assert found["reference"]["what"] == "real vs real" and found["reference"]["low"] is not None
    page = (tmp_path / "out" / "report.html").read_text()
    assert (
        '<strong>mean_distance</strong> <span class="soft">Distance of the means of two sets of features. (here)'
        in page
    )
    capsys.readouterr()
    assert main([*given, "--metrics", "mean_distnace"]) == 2
    assert "unknown metric in --metrics 'mean_distnace', did you mean 'mean_distance'?" in capsys.readouterr().err
    assert main([*given, "--metrics", "bleu"]) == 2
    assert "--metrics bleu takes generated texts" in capsys.readouterr().err


def test_every_metric_has_a_meaning_and_one_section() -> None:
    names = [name for section in sections.SECTIONS.values() for name in section.metrics]
    assert len(names) == len(set(names)) and all(
        meaning for section in sections.SECTIONS.values() for meaning in section.metrics.values()
    )
    assert all(set(section.needs) <= set(NEEDS) for section in sections.SECTIONS.values())


def test_the_documentation_has_the_table_of_sections() -> None:
    text = (DOCS / "evaluate.md").read_text(encoding="utf-8")
    for name, section in sections.SECTIONS.items():
        assert f"| `{name}` | {section.question} | {section.requires} | {'; '.join(section.metrics)} |" in text, name


def test_the_documentation_has_every_metric() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert set(dir(medloom.metrics)) <= set(re.findall(r"`(\w+)`", text))
    for name, info in METRICS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` | {info.takes} | "))
        assert f" | {info.better or '–'} | {info.low:g} to {info.high:g} | {info.source or '–'} | " in row, name
