"""Two models side by side on what both know; patients that either has seen are refused."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.recipes import evaluate_images
from medloom.recipes.commands import run_command


def run_compare(before: Path, after: Path, data: Path, out: Path) -> list[dict[str, str]]:
    options = {"label": "none", "features": ["pixels"], "steps": 2, "image_size": [16], "device": "cpu"}
    table = run_command("compare", before=before, after=after, data=data, out=out, **options)
    with table.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_before_and_after_a_new_modality(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_manifest(12, folder="old")
    # Scales of a run's own guide no comparison.
    own = {"sampling.guidance": ["3", "text=5"]}
    before = run_command("train text2image", data=old, out=tmp_path / "before", **tiny_options, **own)
    new = make_manifest(12, folder="new", seed=1)
    new.write_text(re.sub(r",p(\d)", r",new\1", new.read_text().replace("Square", "Cross")))
    after = run_command("train text2image", data=new, out=tmp_path / "after", from_run=before, **tiny_options)
    test = make_manifest(40, folder="test", seed=2)
    head, *lines = re.sub(r",p(\d)", r",held-out\1", test.read_text()).splitlines()
    test.write_text("\n".join([f"{head},nurse", *(f"{line},quokka{n}" for n, line in enumerate(lines))]) + "\n")
    table = tmp_path / "compared" / "conditions-internal.csv"

    def interrupted(*_: object, **__: object) -> Path:
        """The first model's images are there when the command is ended."""
        kept = table.read_text()
        assert "held-out1" in kept and "quokka" not in kept
        raise KeyboardInterrupt

    evaluate = evaluate_images.evaluated
    monkeypatch.setattr(evaluate_images, "evaluated", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_compare(before, after, test, tmp_path / "compared")
    assert not table.exists()
    first = (tmp_path / "compared" / "before" / "000000.png").read_bytes()
    monkeypatch.setattr(evaluate_images, "evaluated", evaluate)
    rows = run_compare(before, after, test, tmp_path / "compared")
    assert (tmp_path / "compared" / "before" / "000000.png").read_bytes() == first
    # Nothing of the table is left: neither the rows themselves, nor their patients and texts.
    for path in (path for path in (tmp_path / "compared").rglob("*") if path.is_file()):
        assert not re.search(rb"held-out\d|quokka", path.read_bytes()), path
    assert not table.exists()
    assert {row["metric"] for row in rows} >= {"Frechet distance", "coverage"}
    assert any(row["before"] != row["after"] for row in rows)
    page = (tmp_path / "compared" / "comparison.html").read_text()
    assert "SYNTHETIC" in page
    with pytest.raises(UserError, match="have the same weights; give two models"):
        run_compare(before, before, test, tmp_path / "alone")
    assert not (tmp_path / "alone").exists()
    assert len(re.findall("Are the images realistic?", page)) == 1
    (distance,) = (row for row in rows if row["metric"] == "excess Frechet distance")
    assert f"{float(distance['before']):.3g}" in page
    assert f"{float(distance['after']):.3g}" in page
    assert (tmp_path / "compared" / "before" / "000000.png").is_file()
    asked = [read_json(tmp_path / "compared" / side / "generation.json")["options"] for side in ("before", "after")]
    assert [options["guidance"] for options in asked] == [["1.0"], ["1.0"]]

    # Both reports, and the command that was ended, are one opening of the held-out images.
    (opening,) = read_json(test.with_name("openings.json"))["openings"]
    assert (opening["command"], opening["plan"], opening["out"]) == ("compare", None, "compared")
    assert read_json(tmp_path / "compared" / "after-report" / "scores.json")["openings"]["count"] == 1
    assert not (tmp_path / "compared" / "openings.json").exists()

    # The second model starts from the first, so that it has seen the first one's patients too.
    with pytest.raises(UserError, match="patients were in the training set of"):
        run_compare(after, after, old, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
