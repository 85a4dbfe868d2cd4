"""Text-to-image models of images without texts: by class, by a table, and of nothing at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

import medloom
from medloom.core.errors import UserError
from medloom.recipes.commands import run_command


def without(manifest: Path, *columns: str) -> Path:
    """The table less some columns."""
    import csv

    with manifest.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    kept = [name for name in rows[0] if name not in columns]
    target = manifest.with_name("less.csv")
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return target


@pytest.mark.parametrize(
    ("columns", "options", "asked"),
    [
        (["Text"], {"table": ["label"]}, {"modality": "Disc", "table": {"label": "disc"}}),
        (["Text"], {"columns": {"text": "label"}}, {"modality": "Disc", "text": "disc"}),
        (["Text"], {"columns": {"text": "none"}}, {"modality": "Disc"}),
        ([], {"columns": {"text": "none"}, "network.fusion": "none"}, {"modality": "Disc"}),
        (["label"], {"columns": {"text": "none"}}, {"modality": "Disc"}),
    ],
)
def test_a_model_learns_without_texts(
    columns: list[str],
    options: dict[str, object],
    asked: dict[str, object],
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    tiny_options: dict[str, object],
) -> None:
    manifest = make_manifest()
    data = without(manifest, *columns) if columns else manifest
    # A column that is left out is one of the table's own, whatever its name.
    data.write_text(data.read_text().replace("Text", "text"))
    run = run_command("train text2image", data=data, out=tmp_path / "run", **{**tiny_options, **options})
    model = medloom.load(run)
    assert len(model.generate(medloom.Condition(**asked), seeds=[0, 1])) == 2  # type: ignore[arg-type]
    if "text" not in asked:
        with pytest.raises(UserError, match="reads none; leave the text"):
            model.generate(medloom.Condition("A disc.", "Disc"), seed=0)


def test_a_table_without_texts_says_both_ways(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    data = without(make_manifest(), "Text")
    with pytest.raises(UserError, match=r"no text column.*\(--columns text=none: train without texts"):
        run_command("train text2image", data=data, out=tmp_path / "run", **tiny_options)
