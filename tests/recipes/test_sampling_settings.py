"""A run is sampled as it was judged in training, by every command, until somebody asks for something else."""

from collections.abc import Callable
from pathlib import Path

import pytest

import medloom
from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.recipes.commands import run_command


def train(data: Path, out: Path, options: dict[str, object], **more: object) -> Path:
    return run_command("train text2image", **{"data": data, "out": out, **options, **more})


def sampled(model: Path, out: Path, command: str = "generate", **asked: object) -> tuple[object, object]:
    """The steps and scales that a command took for one image."""
    given = {"prompt": "x", "modality": "Disc"} if command == "generate" else {}
    run_command(command, **{"model": model, "out": out, "device": "cpu", **given, **asked})
    described = read_json(out / ("generation.json" if command == "generate" else "whatif.json"))
    return described["options"]["steps"], described["options"]["guidance"]


@pytest.fixture
def own(make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]) -> Path:
    """A run with steps and scales of its own."""
    settings = {"sampling.steps": 3, "sampling.guidance": ["1", "text=3"], "sampling.sampler": "flow-euler"}
    return train(make_manifest(), tmp_path / "own", tiny_options, **settings)


def test_a_run_keeps_its_sampling(own: Path, tmp_path: Path) -> None:
    sampling = medloom.load(own).sampling
    assert (sampling.steps, sampling.guidance, dict(sampling.guidance_by_part)) == (3, 1.0, {"text": 3.0})
    assert sampling.sampler == "flow-euler"
    assert sampled(own, tmp_path / "a") == (3, ["1.0", "text=3.0"])


def test_whoever_names_a_scale_says_all_of_them(own: Path, tmp_path: Path) -> None:
    assert sampled(own, tmp_path / "a", guidance=["2"], steps=4) == (4, ["2.0"])
    assert sampled(own, tmp_path / "b", guidance=["modality=2"]) == (3, ["1.0", "modality=2.0"])


def test_an_estimate_is_not_guided_by_the_runs_own_scales(own: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("modality,smoking\nDisc,never\n", encoding="utf-8")
    template = tmp_path / "t.yaml"
    template.write_text("columns: {smoking: {values: {never: never, current: smoker}}}\n", encoding="utf-8")
    asked = {"data": data, "template": template, "set": ["smoking=current"], "allow_unseen": True}
    assert sampled(own, tmp_path / "a", "whatif", **asked) == (3, ["1.0"])


def test_a_run_that_is_continued_keeps_it_as_well(
    own: Path, make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    manifest = own.parent / "data" / "manifest.csv"
    inherited = {name: value for name, value in tiny_options.items() if name != "sampling.steps"}
    assert medloom.load(train(manifest, tmp_path / "more", inherited, from_run=own)).sampling.steps == 3
    other = train(manifest, tmp_path / "other", tiny_options, from_run=own, **{"sampling.steps": 5})
    assert medloom.load(other).sampling.steps == 5


def test_settings_that_the_model_cannot_follow_are_refused_before_training(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    manifest = make_manifest()
    with pytest.raises(UserError, match="sampling.guidance 'twice'"):
        train(manifest, tmp_path / "a", tiny_options, **{"sampling.guidance": ["twice=2"]})
    with pytest.raises(UserError, match="dropout 0"):
        train(manifest, tmp_path / "b", tiny_options, **{"sampling.guidance": ["2"], "text.dropout": 0})
    with pytest.raises(UserError, match="ddim"):
        train(manifest, tmp_path / "c", tiny_options, **{"sampling.sampler": "ddim"})
    with pytest.raises(UserError, match="sampling.steps is 0"):
        train(manifest, tmp_path / "d", tiny_options, **{"sampling.steps": 0})
    assert not any((tmp_path / name).exists() for name in "abcd")


def test_the_demos_preset_is_sampled_as_the_demo_is_judged() -> None:
    from medloom.core.config import configure
    from medloom.generators.diffusion.options import TextToImage

    options = configure(TextToImage, data=Path("t.csv"), out=Path("r"), preset="counterfactual", image_size=[16])
    assert (options.sampling.steps, options.sampling.guidance) == (10, ("1",))
