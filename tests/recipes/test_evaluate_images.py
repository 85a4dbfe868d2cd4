"""`medloom evaluate images` from manifests to a report, and what it refuses."""

import base64
import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from medloom.cli.main import main
from medloom.core.errors import GateError, UserError
from medloom.core.files import write_json
from medloom.core.spec import HU, ImageSpec, Intensity
from medloom.data.manifest import read_manifest
from medloom.data.splits import make_split
from medloom.data.tables import row_ids
from medloom.evaluation.images.proofs import DETECTED
from medloom.recipes.evaluate_images import Config, run

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation" / "images"))
from drawn import drawn_set

# The default features, of which one test makes sure, take an encoder of their own.
QUICK: dict[str, Any] = {
    "image_size": (16,),
    "steps": 50,
    "edited_images": 4,
    "device": "cpu",
    "features": ("classifier",),
}

# The sets name patients of several images each.
BY_IMAGE: dict[str, Any] = {"images_are_patients": True, "columns": {"patient_id": "none"}}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Training, real and synthetic images; half of `copied` are copies of training images, `dropped` has no squares."""
    root = tmp_path_factory.mktemp("sets")
    made = {
        "train": drawn_set(root / "train", 160, 0),
        "real": drawn_set(root / "real", 120, 1),
        "good": drawn_set(root / "good", 80, 2, patients=False),
        "swapped": drawn_set(root / "swapped", 80, 3, swapped=True, patients=False),
        "dropped": drawn_set(root / "dropped", 80, 4, kinds=("disc",), patients=False),
        "copied": drawn_set(root / "copied", 80, 5, patients=False),
    }
    for number in range(40):
        shutil.copy(root / "train" / f"{number}.png", root / "copied" / f"{number}.png")
    return made


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def evaluate(sets: dict[str, Path], name: str, out: Path, **options: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Metrics by name, subset and extractor."""
    run(Config(real=sets["real"], synthetic=(sets[name],), out=out, **{**QUICK, **options}))
    metrics = json.loads((out / "scores.json").read_text())["metrics"]
    return {(entry["name"], entry["subset"], entry["extractor"]): entry for entry in metrics}


@pytest.mark.slow
def test_a_good_set_passes_and_the_page_shows_no_real_image(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    metrics = evaluate(sets, "good", tmp_path / "out", train=sets["train"], cache=cache, features=())
    assert {entry["section"] for entry in metrics.values()} == {
        "fidelity",
        "alignment",
        "copies",
        "privacy",
        "utility",
        "identifiers",
    }
    recognition = metrics["recognition", "all", ""]
    assert recognition["value"] > 0.8 and recognition["reference"]["n"] == 60
    for extractor in ("classifier", "local"):
        assert not metrics["coverage", "all", extractor]["reading"].endswith("worse")
    assert (
        metrics["copies of training images", "all", ""]["value"] == 0 == metrics["repeated images", "all", ""]["value"]
    )
    assert metrics["identical files", "all", ""]["value"] == 0
    subsets = {subset for name, subset, _ in metrics if name not in ("edited copies found", DETECTED)}
    assert subsets == {"all", "dark", "light", "disc", "square"}
    card = (tmp_path / "out" / "data_card.md").read_text()
    assert "SYNTHETIC" in card and "| recognition | - |" in card and "## Weaknesses" in card
    page = (tmp_path / "out" / "report.html").read_text()
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert str(sets["real"].parent) not in page and str(sets["train"].parent) not in page
    shown = [Image.open(io.BytesIO(base64.b64decode(part))) for part in re.findall(r"base64,([A-Za-z0-9+/=]+)", page)]
    # Two modalities, and the images least like real ones by each of three extractors.
    assert sum(picture.info.get("SYNTHETIC") == "YES" for picture in shown) == 2 + 3
    beside = (tmp_path / "out" / "side-by-side-internal.html").read_text()
    rows = [Image.open(io.BytesIO(base64.b64decode(part))) for part in re.findall(r"base64,([A-Za-z0-9+/=]+)", beside)]
    assert [picture.info["SYNTHETIC"] for picture in rows] == ["YES", "NO"] * (2 + 3)
    assert "NOT FOR SHARING" in beside


def test_copies_are_dropped_and_the_gate_is_kept(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate.yaml"
    gate.write_text("- {metric: excess of copies, value_at_most: 0.05}\n")
    given = {"real": sets["real"], "synthetic": sets["copied"], "train": sets["train"], "cache": cache, "steps": 50}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    words += ["--image-size", "16", "--device", "cpu", "--only", "copies", "--gate", str(gate)]
    words += ["--config", str(tmp_path / "settings.yaml")]
    (tmp_path / "settings.yaml").write_text("edited_images: 4\n")
    assert main(["evaluate", "images", *words, "--out", str(tmp_path / "out")]) == 3
    assert (tmp_path / "out" / "report.html").is_file() and not (tmp_path / "out" / "cleaned.csv").exists()
    internal = (tmp_path / "out" / "report-internal.html").read_text()
    assert "NOT FOR SHARING" in internal and internal.count("data:image/png") >= 40
    assert main(["evaluate", "images", *words, "--out", str(tmp_path / "kept"), "--drop-copies", "true"]) == 0
    cleaned = read_manifest(tmp_path / "kept" / "cleaned.csv", need=("path",), need_patients=False)
    assert not {Path(path).stem for path in cleaned.frame["path"]} & {str(number) for number in range(40)}
    assert len(cleaned) >= 30 and (tmp_path / "kept" / "cleaned" / "report.html").is_file()
    # The whole set and the cleaned one are one opening.
    opened = [
        json.loads((tmp_path / name / "scores.json").read_text())["openings"] for name in ("kept", "kept/cleaned")
    ]
    assert opened[0] == opened[1] and opened[0]["count"] >= 2


@pytest.mark.slow
def test_the_cleaned_set_holds_nothing_of_its_conditions(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    table = tmp_path / "conditions.csv"
    table.write_text("Text,modality,nurse\nSeen by Zebu.,dark,okapi\n")
    head, *lines = sets["copied"].read_text().splitlines()
    made = sets["copied"].with_name("named.csv")
    made.write_text("\n".join([f"{head},source_id", *(f"{line},{row_ids(table, [2])[0]}" for line in lines)]) + "\n")
    options: dict[str, Any] = {"train": sets["train"], "cache": cache, "only": ("copies",), "features": ("pixels",)}
    out = tmp_path / "out"
    evaluate({**sets, "named": made}, "named", out, conditions=table, drop_copies=True, **options)
    cleaned = (out / "cleaned.csv").read_text()
    assert "source_id" in cleaned and "Zebu" not in cleaned and "okapi" not in cleaned
    assert (out / "cleaned" / "report.html").is_file()


@pytest.mark.slow
def test_rows_by_columns(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"only": ("fidelity",), "features": ("pixels",), "label": "none", "cache": cache}
    metrics = evaluate(sets, "good", tmp_path / "out", by=("label",), **options)
    subsets = {subset for name, subset, _ in metrics if name != DETECTED}
    assert subsets == {"all", "dark", "light", "label disc", "label square"}
    # Fifteen held-out patients a class and modality would be too few; of a class there are thirty.
    assert metrics["recall", "label disc", "pixels"]["n"] == 30
    told = evaluate(sets, "good", tmp_path / "told", only=("alignment",), cache=cache)
    assert {subset for metric, subset, _ in told if metric == "recognition"} == {
        "all",
        "disc",
        "square",
        "dark",
        "light",
    }
    with pytest.raises(UserError, match=r"--by column of .*manifest.csv .*generate --keep finding_side"):
        evaluate(sets, "good", tmp_path / "none", by=("finding_side",), **options)


def test_the_same_command_again_reads_what_it_kept(
    sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluate(sets, "good", tmp_path, only=("alignment",), steps=5)
    assert "training classifier" in capsys.readouterr().err
    assert evaluate(sets, "good", tmp_path, only=("alignment",), steps=5) == first
    again = capsys.readouterr().err
    assert "training classifier" not in again and "first half images: read from" in again
    assert {section["section"] for section in first.values()} == {"alignment"}


def test_a_copied_set_is_caught(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    metrics = evaluate(sets, "copied", tmp_path / "out", train=sets["train"], cache=cache, only=("copies",))
    excess = metrics["excess of copies", "all", ""]
    assert excess["value"] == pytest.approx(0.5, abs=0.1) and excess["low"] > 0.3
    assert metrics["identical files", "all", ""]["value"] == 0.5
    assert "train/0.png" in (tmp_path / "out" / "copies-internal.csv").read_text()


@pytest.mark.slow
def test_copies_of_the_held_out_images_in_colour_files_are_caught(
    sets: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    """Written again with R = G = B, as pipelines save grey images."""
    lines = sets["real"].read_text().splitlines()
    for number in range(80):
        grey = Image.open(sets["real"].parent / f"{number}.png")
        grey.convert("RGB").save(tmp_path / f"{number}.png")
    (tmp_path / "manifest.csv").write_text("\n".join(lines[:81]) + "\n")
    given = {"train": sets["train"], "cache": cache, "only": ("copies",)}
    with pytest.raises(GateError, match="FAIL: copies of held-out images of all 1 "):
        evaluate({**sets, "again": tmp_path / "manifest.csv"}, "again", tmp_path / "out", gate=Path("release"), **given)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    (answer,) = (one for one in scores["answers"] if one["question"] == "Do they copy patients' images?")
    assert (answer["light"], answer["word"]) == ("red", "found")
    assert answer["sentence"] == "They contain copies of held-out images, which the generator should not have seen."
    assert scores["release"].startswith("DO NOT RELEASE: ")


@pytest.mark.slow
def test_a_dropped_mode_loses_coverage(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "train": sets["train"],
        "cache": cache,
        "label": "label",
        "only": ("fidelity",),
    }
    metrics = evaluate(sets, "dropped", tmp_path / "out", **given)
    for metric in ("coverage", "Frechet distance"):
        assert metrics[metric, "all", "classifier"]["reading"].endswith("worse"), metric
    assert metrics["real images of missing classes", "all", ""]["low"] > 0.3
    with pytest.raises(UserError, match="utility cannot be measured: all of them are of class 'disc'"):
        evaluate(sets, "dropped", tmp_path / "use", **{**given, "only": ("utility",)})


@pytest.mark.slow
def test_a_label_swapped_set_loses_recognition(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    metrics = evaluate(
        sets, "swapped", tmp_path / "out", train=sets["train"], cache=cache, only=("alignment", "utility")
    )
    assert metrics["recognition", "all", ""]["value"] < 0.25
    assert metrics["recognition", "all", ""]["reading"].endswith("worse")
    share = metrics["accuracy trained on synthetic over real images", "all", ""]
    assert share["value"] < 0.5 and share["reading"].endswith("worse")
    assert share["reference"]["what"] == "trained on half of the real images"
    assert share["reference"]["low"] is not None and share["reference"]["value"] > 0.7


@pytest.mark.slow
def test_without_a_label_the_modality_is_the_class(sets: dict[str, Path], tmp_path: Path) -> None:
    metrics = evaluate(sets, "good", tmp_path, label="modality", only=("alignment",), steps=20)
    assert {subset for metric, subset, _ in metrics if metric == "recognition"} == {"all", "dark", "light"}


@pytest.mark.slow
def test_pixels_need_no_class(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    metrics = evaluate(sets, "good", tmp_path, label="none", features=("pixels",), cache=cache)
    assert {entry["section"] for entry in metrics.values()} == {"fidelity", "copies", "identifiers"}
    assert metrics["Frechet distance", "all", "pixels"]["reference"]["n"] == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ("fidelty",)}, "unknown section in --only 'fidelty', did you mean 'fidelity'"),
        ({"features": ("clasifier",)}, "did you mean 'classifier'"),
        ({"network": "tiny"}, "unknown --network 'tiny'"),
        ({"label": "lable"}, "did you mean 'label'"),
        ({"label": "sample_id"}, "120 different values in it; a class label has 2 to 100"),
        ({"label": "none", "features": ("classifier",)}, "--features classifier needs a class"),
        ({"label": "none", "only": ("alignment",)}, "alignment needs a class"),
        ({"only": ("privacy",)}, "privacy needs --train"),
        ({"seed": -1}, "--seed -1 is out of range"),
        ({"device": "gpu"}, "allowed: auto, cpu, cuda"),
        ({"steps": 0}, "--steps 0"),
        ({"drop_copies": True}, "--drop-copies needs --train"),
        (
            {"drop_copies": True, "train": Path("t"), "only": ("fidelity",)},
            "--drop-copies needs the section copies",
        ),
        ({"gate": Path("none.yaml")}, r"--gate none\.yaml: no such file; .* --gate release for the built-in rules"),
        ({"reference_model": Path("run")}, "--reference-model calibrates the attack on --model, which needs --train"),
        ({"metrics": ("fid",)}, "unknown metric in --metrics 'fid'"),
        ({"metrics": ("squared_mmd",), "only": ("privacy",)}, "--metrics are measured in the section fidelity"),
        ({"attack_images": 0}, "the setting attack_images is 0: give 1 or more"),
        ({"edited_images": 0}, "the setting edited_images is 0: give 1 or more"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str, sets: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(sets, "good", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_setting_is_named_as_in_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "images", "--real", "r.csv", "--synthetic", "s.csv", "--out", str(tmp_path / "out")]
    (tmp_path / "settings.yaml").write_text("attack_images: many")
    assert main([*words, "--config", str(tmp_path / "settings.yaml")]) == 2
    assert "settings.yaml: attack_images: give a whole number, not 'many'." in capsys.readouterr().err
    assert main([*words, "--attack-images", "5"]) == 2
    assert "--attack-images is a setting" in capsys.readouterr().err
    assert main([*words, "--atack-images", "5"]) == 2
    assert "unknown option --atack-images, did you mean 'attack_images'?" in capsys.readouterr().err


def test_sets_that_must_not_be_compared(sets: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="share 120 of their files"):
        evaluate(sets, "real", out)
    with pytest.raises(UserError, match="share 80 of their files"):
        evaluate(sets, "good", out, train=sets["good"], **BY_IMAGE)
    with pytest.raises(UserError, match="60 of 60 patients have several images"):
        evaluate(sets, "good", out, images_are_patients=True)
    with pytest.raises(UserError, match="60 of the 60 patients"):
        evaluate(sets, "good", out, train=sets["real"])
    with pytest.raises(UserError, match="names no patients"):
        evaluate({**sets, "real": sets["swapped"]}, "good", out)
    few = drawn_set(tmp_path / "few", 8, 9, patients=False)
    with pytest.raises(UserError, match="fidelity cannot be measured: there are 8 synthetic images and it needs 20"):
        evaluate({**sets, "few": few}, "few", out, only=("fidelity",))
    other = few.with_name("other.csv")
    other.write_text(few.read_text().replace(",light,", ",MR,"))
    with pytest.raises(UserError, match="4 rows are of modality 'MR', of which there is no real image"):
        evaluate({**sets, "other": other}, "other", out)
    one = drawn_set(tmp_path / "one", 60, 10, kinds=("disc",))
    with pytest.raises(UserError, match="has 1 different value"):
        evaluate({**sets, "real": one}, "dropped", out, label="label")
    assert not out.exists()


def test_sections_with_too_few_images_are_left_out(
    sets: dict[str, Path], cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = drawn_set(tmp_path / "few", 8, 9, patients=False)
    words = ["evaluate", "images", "--real", str(sets["real"]), "--synthetic", str(few), "--out", str(tmp_path / "out")]
    words += ["--features", "pixels", "--label", "label", "--image-size", "16", "--steps", "5", "--device", "cpu"]
    words += ["--cache", str(cache), "--config", str(tmp_path / "settings.yaml")]
    (tmp_path / "settings.yaml").write_text("edited_images: 4\n")
    assert main(words) == 0
    reason = "there are 8 synthetic images and it needs 20"
    assert f"fidelity was left out: {reason}." in capsys.readouterr().err
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["left_out"]["fidelity"] == reason and f"fidelity was left out: {reason}." in scores["notes"]
    assert scores["left_out"]["alignment"] == "8 synthetic images have a class and it needs 10"
    assert {metric["section"] for metric in scores["metrics"]} == {"copies", "identifiers"}
    assert f"fidelity was left out: {reason}." in (tmp_path / "out" / "report.html").read_text()
    for section in ("fidelity", "alignment"):
        assert main([*words, "--only", section]) == 2
        assert f"medloom: {section} cannot be measured: " in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(sets: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"no scores\.json"):
        evaluate(sets, "good", tmp_path, label="none", features=("pixels",))


def make_run(folder: Path, manifest: Path, images_are_patients: bool) -> Path:
    """A run folder that says which patients it has seen."""
    named = BY_IMAGE["columns"] if images_are_patients else None
    seen = read_manifest(manifest, images_are_patients=images_are_patients, named=named, need=("path",))
    split = make_split(seen, ["train"] * len(seen))
    options = {"loop": {"steps": 10, "seed": 0}}
    window = {name: Intensity("window", "grey level", 0, 255) for name in ("dark", "light")}
    identity = {"options": options, "spec": ImageSpec((16, 16), 1, "pad", window).to_dict()}
    told = {"split": split.to_dict(), "inherited_splits": [], "images_are_patients": images_are_patients}
    told |= {"identity": identity, "columns": [], "environment": {"medloom": "0.1.0"}}
    write_json(folder / "run.json", told)
    write_json(folder / "index.json", {"family": "diffusion"})
    (folder / "model").mkdir()
    return folder


@pytest.mark.slow
def test_patients_that_the_model_has_seen_are_refused(sets: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"label": "none", "features": ("pixels",), "only": ("fidelity",)}
    for number, as_images in enumerate((False, True)):
        own = make_run(tmp_path / f"own{number}", sets["real"], as_images)
        with pytest.raises(UserError, match="patients were in the training set"):
            evaluate(sets, "good", tmp_path / "out", model=own, **options)
    named = make_run(tmp_path / "named", sets["train"], False)
    with pytest.raises(UserError, match="training patients cannot be compared with them"):
        evaluate(sets, "good", tmp_path / "out", model=named, **BY_IMAGE, **options)
    assert evaluate(sets, "good", tmp_path / "out", model=named, **options)
    assert "| patients trained on | 80 |" in (tmp_path / "out" / "model_card.md").read_text()


@pytest.mark.slow
def test_bad_images_are_named_or_left_out(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    bad = drawn_set(tmp_path / "bad", 40, 11, patients=False)
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(bad.parent / "3.png")
    both = {**sets, "bad": bad}
    options: dict[str, Any] = {"label": "none", "features": ("pixels",), "only": ("fidelity",), "cache": cache}
    with pytest.raises(UserError, match=r"3\.png is constant"):
        evaluate(both, "bad", tmp_path / "out", **options)
    evaluate(both, "bad", tmp_path / "out", skip_bad=True, **options)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert "1 synthetic images cannot be read and were left out (--skip-bad)." in scores["notes"]
    # The table counts what was compared.
    assert scores["sets"][0]["images"] == 39


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("features: clasifier", "features 'clasifier', did you mean 'classifier'"),
        ("of: nodule", "of 'nodule'. Known: all"),
    ],
)
def test_what_a_gate_is_on_is_checked_before_anything_is_trained(
    sets: dict[str, Path], cache: Path, tmp_path: Path, key: str, message: str
) -> None:
    gate = tmp_path / "gate.yaml"
    gate.write_text(f"- {{metric: coverage, {key}, value_at_least: 0.1}}")
    with pytest.raises(UserError, match=message):
        evaluate(sets, "good", tmp_path / "out", gate=gate, cache=cache)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_held_out_images_that_are_training_images_are_left_out(
    sets: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    both = drawn_set(tmp_path / "both", 120, 1)
    for number in range(3):
        shutil.copy(sets["train"].parent / f"{number}.png", both.parent / f"{number}.png")
    options: dict[str, Any] = {"train": sets["train"], "cache": cache, "only": ("copies",)}
    metrics = evaluate({**sets, "real": both}, "copied", tmp_path / "out", **options)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert any(note.startswith("3 of 120 held-out images are training images too") for note in scores["notes"])
    assert scores["sets"][1]["images"] == 117 and metrics["excess of copies", "all", ""]["low"] > 0.3


@pytest.mark.slow
@pytest.mark.shared
def test_real_halves_are_at_their_reference(shared: Path, tmp_path: Path) -> None:
    lines = (shared / "medmnist64.csv").read_text().splitlines()
    rows = [f"{shared}/{line}" for line in lines[1:]]
    order = np.random.default_rng(0).permutation(len(rows))
    halves = {}
    for name, part in (("real", order[::2]), ("synthetic", order[1::2])):
        halves[name] = tmp_path / f"{name}.csv"
        halves[name].write_text("\n".join([lines[0], *(rows[row] for row in part)]) + "\n")
    options = {"image_size": (64,), "steps": 200, "images_are_patients": True, "only": ("fidelity", "alignment")}
    metrics = evaluate(halves, "synthetic", tmp_path / "out", **options)
    assert not metrics["Frechet distance", "all", "classifier"]["reading"].endswith("worse")
    recognition = metrics["recognition", "all", ""]
    assert recognition["value"] == pytest.approx(recognition["reference"]["value"], abs=0.03)


@pytest.mark.slow
def test_the_column_of_units_is_that_of_every_set(tmp_path: Path) -> None:
    rng, found = np.random.default_rng(0), {}
    for name in ("real", "synthetic"):
        (tmp_path / name).mkdir()
        lines = ["path,Text,modality,patient_id,pixel_unit"]
        for number in range(40):
            values = rng.normal(-400, 200, (16, 16, 2)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / name / f"{number}.nii")
            # One of the sets says it.
            lines.append(f"{number}.nii,a,CT,{name}{number},{'HU' if name == 'real' else ''}")
        (tmp_path / name / "m.csv").write_text("\n".join(lines) + "\n")
        found[name] = tmp_path / name / "m.csv"
    evaluate(
        found,
        "synthetic",
        tmp_path / "out",
        label="none",
        image_size=(16, 16, 2),
        features=("pixels",),
        only=("fidelity",),
    )
    spec = ImageSpec.from_dict(json.loads((tmp_path / "out" / "scores.json").read_text())["spec"])
    assert spec.of("CT").unit == HU


@pytest.mark.slow
def test_several_sets_are_ranked(
    sets: dict[str, Path], cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "images", "--real", str(sets["real"]), "--out", str(tmp_path / "out"), "--cache", str(cache)]
    words += [word for name in ("good", "dropped") for word in ("--synthetic", str(sets[name]))]
    words += ["--only", "fidelity", "--features", "pixels", "--label", "none", "--image-size", "16", "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["finished"] and [place["rank"] for place in found["ranking"]] == [1, 2]
    first, second = (place["name"] for place in found["ranking"])
    assert {first, second} == {sets[name].parent.name for name in ("good", "dropped")}
    assert f"2. {second}: mean excess Frechet distance" in said.err
    page = (tmp_path / "out" / "ranking.html").read_text()
    assert "SYNTHETIC" in page and f"1. {first}" in page
    assert all((tmp_path / "out" / name / "report.html").is_file() for name in (first, second))
    assert main([*words, "--gate", "release"]) == 2
    assert "--gate is for one set of images, and 2 are given" in capsys.readouterr().err
    assert main([*words[: words.index("--only")], "--only", "alignment"]) == 2
    assert "several --synthetic are ranked by the section fidelity" in capsys.readouterr().err
    assert main([*words[:-10], "--synthetic", str(sets["good"]), *words[-10:]]) == 2
    assert "give manifests whose names or folders differ" in capsys.readouterr().err
