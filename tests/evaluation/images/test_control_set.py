"""A control set of the user's own: images that are known to be bad, beside the set made without a model."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medloom.cli.main import main
from medloom.core.errors import UserError
from medloom.evaluation.images.comparison import compare
from medloom.evaluation.images.features import FeatureSet
from medloom.evaluation.images.fidelity import EXCESS, FD, control_beyond
from medloom.evaluation.images.proofs import DETECTED
from medloom.metrics.frechet import frechet_distance

sys.path.insert(0, str(Path(__file__).parent))
from drawn import SIZE, drawn_set, read


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real images; two sets like them; and one of noise, as of a model that has learnt nothing."""
    root = tmp_path_factory.mktemp("sets")
    made = {"real": drawn_set(root / "real", 120, 1)}
    for seed, name in enumerate(("made", "alike", "noise"), 2):
        made[name] = drawn_set(root / name, 60, seed, patients=False)
    rng = np.random.default_rng(0)
    for path in (root / "noise").glob("*.png"):
        Image.fromarray(rng.integers(0, 255, (SIZE, SIZE), np.uint8)).save(path)
    return made


def words(sets: dict[str, Path], control: Path, out: Path, **options: str) -> list[str]:
    given = {"real": sets["real"], "synthetic": sets["made"], "control": control, "out": out, "steps": "50"}
    given |= {"cache": sets["real"].parents[1] / "cache", "device": "cpu", "image-size": str(SIZE), **options}
    return ["evaluate", "images", *(word for name, value in given.items() for word in (f"--{name}", str(value)))]


def scores(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    metrics = json.loads((out / "scores.json").read_text())["metrics"]
    return {(entry["name"], entry["subset"]): entry for entry in metrics}


@pytest.mark.slow
def test_a_bad_control_set_stands_beside_the_metrics(sets: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*words(sets, sets["noise"], out, features="texture"), "--only", "fidelity", "alignment"]) == 0
    found = scores(out)
    excess, recognition = found[EXCESS, "all"], found["recognition", "all"]
    assert excess["control_set"] > 1 > excess["value"] and excess["control"] is not None
    assert recognition["control_set"] < 0.75 < recognition["value"]
    assert found["fine detail ratio", "all"]["control_set"] > 1.2
    assert found["recognition beyond chance", "all"]["control_set"] is None
    assert found[DETECTED, "the control set"]["low"] > 1
    assert not any("control set" in entry["reading"] for entry in found.values() if entry["name"] == EXCESS)
    assert '<th class="number">control set</th>' in (out / "report.html").read_text()
    listed = json.loads((out / "scores.json").read_text())["sets"]
    assert [(own["name"], own["images"]) for own in listed][-1] == ("control", 60)


@pytest.mark.slow
def test_a_rule_that_the_control_set_meets_is_not_shown(
    sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The control is as good as real images, so that a metric with it has no power."""
    gate = tmp_path / "gate.yaml"
    gate.write_text("- {metric: excess Frechet distance, upper_at_most: 5}")
    given = words(sets, sets["alike"], tmp_path / "out", features="texture", only="fidelity", gate=str(gate))
    assert main(given) == 3
    assert "the control set meets it too" in capsys.readouterr().err
    assert "texture does not distinguish the control set from real" in (tmp_path / "out" / "report.html").read_text()
    found = scores(tmp_path / "out")[EXCESS, "all"]
    assert abs(found["control_set"]) < 0.3
    coverage = scores(tmp_path / "out")["coverage", "all"]
    assert coverage["reading"] == "cannot tell: the control set is within the reference too"
    passing = words(sets, sets["noise"], tmp_path / "kept", features="texture", only="fidelity", gate=str(gate))
    gate.write_text("- {metric: excess Frechet distance, upper_at_most: 1}")
    assert main(passing) == 0


def test_a_small_control_set_has_no_bias_of_few_images() -> None:
    def normal(n: int, seed: int) -> FeatureSet:
        return FeatureSet(np.random.default_rng(seed).normal(size=(n, 8)), np.arange(n), np.full(n, "X"))

    real, synthetic = normal(400, 0), normal(200, 1)
    few = [normal(25, 25 + 10 * seed) for seed in range(4)]
    # 25 images against 200 have a Frechet distance of about 1 more than 200 against 200, by their number alone.
    against = [frechet_distance(real.values[:200], each.values) for each in few]
    assert np.mean(against) - frechet_distance(real.values[:200], real.values[200:]) > 0.8
    assert abs(np.mean([control_beyond(real, synthetic, each, 0)[FD, "all"] for each in few])) < 0.2
    moved = FeatureSet(normal(25, 9).values + 1, np.arange(25), np.full(25, "X"))
    assert control_beyond(real, synthetic, moved, 0)[EXCESS, "all"] == pytest.approx(1, abs=0.3)


def test_what_is_no_control_set_is_refused(
    sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(sets, sets["made"], tmp_path / "out")) == 2
    assert "share 60 of their files" in capsys.readouterr().err
    assert main(words(sets, sets["noise"], tmp_path / "out", only="copies")) == 2
    assert "--control is measured in the sections fidelity and alignment" in capsys.readouterr().err
    real, made = read(sets["real"]), read(sets["made"], patients=False)

    def refused(change: tuple[str, str], rows: int = 60, label: str = "label") -> str:
        lines = sets["noise"].read_text().replace(*change).splitlines()
        path = sets["noise"].with_name("changed.csv")
        path.write_text("\n".join(lines[: rows + 1]) + "\n")
        given: dict[str, Any] = {"label": label, "image_size": (SIZE,), "resize": "pad", "seed": 0}
        with pytest.raises(UserError, match="--control: ") as error:
            compare(real, made, None, control=read(path, patients=False), **given)
        return str(error.value)

    assert "has images of modality 'bright', of which there is no real image; known: dark, light" in refused(
        (",light,", ",bright,")
    )
    assert "has no column 'label', the class of the other sets" in refused((",label,", ",kind,"))
    assert "has 12 images; give 20 or more" in refused(("", ""), rows=12)
