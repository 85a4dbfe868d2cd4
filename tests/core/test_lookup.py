"""Did-you-mean: slips of the pen and habits of other tools are answered, and nothing else is guessed."""

import pytest

from medloom.core.config import parse
from medloom.core.errors import UserError
from medloom.core.habits import HABITS
from medloom.core.lookup import closest, did_you_mean
from medloom.recipes import data_split, generate, text2image

COLUMNS = ("path", "image", "text", "caption", "report", "prior", "modality", "patient_id")


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        ("nevr", ("never", "former", "current"), "never"),
        ("smokng", ("age", "smoking", "sex"), "smoking"),
        ("trian", ("train", "generate"), "train"),
        ("pvt", ("vpt", "cxr"), "vpt"),
        ("text2img", ("text2image", "mask2image"), "text2image"),
        ("train text2img", ("train text2image", "train mask2image"), "train text2image"),
        ("disk", ("square", "disc"), "disc"),
        ("Nodul", ("left nodule", "Nodule"), "Nodule"),
        ("mimic", ("openi", "mimic-cxr"), "mimic-cxr"),
        ("sex", COLUMNS, None),
        ("caption_", ("prior", "path"), None),
        ("caption", ("prior", "path", "modality"), None),
        (".dcm", (".csv", ".tsv", ".xlsx"), None),
        ("json", ("config", "out", "n"), None),
        ("lr", ("lora", "out"), None),
        ("batch_size", ("size", "shift"), None),
        ("epochs", ("noise.process",), None),
        ("loop.abc", ("loop.ema", "loop.clip"), None),
        ("data import foo", ("data import openi", "data import mimic-cxr"), None),
        ("x", (), None),
    ],
)
def test_only_what_is_close_is_guessed(typed: str, known: tuple[str, ...], meant: str | None) -> None:
    assert closest(typed, known) == meant
    assert did_you_mean(typed, known) == ("" if meant is None else f", did you mean {meant!r}?")


@pytest.mark.parametrize(
    ("written", "recipe", "answer"),
    [
        ("--lr", text2image, "; use --loop.learning-rate."),
        ("--loop.lr", text2image, "; use --loop.learning-rate."),
        ("--learning_rate", text2image, "; use --loop.learning-rate."),
        ("--epochs", text2image, "; medloom counts steps, not epochs: --loop.steps."),
        ("--steps", text2image, "; use --loop.steps."),
        ("--batch-size", text2image, "; use --loop.batch."),
        ("--batch_size", generate, "; use --batch."),
        ("--gpus", text2image, "; use --device cuda, cpu or auto."),
        ("--resolution", text2image, "; use --image-size."),
        ("--num-images", generate, "; use --n."),
        ("--output", generate, "; use --out."),
        ("--output-dir", data_split, "; use --out."),
        ("--model-path", generate, "; use --model."),
        ("--model-path", text2image, "; use --from."),
        ("--image-column", text2image, "; use --columns path=NAME."),
        ("--caption-column", text2image, "; use --columns text=NAME."),
        ("--text-column", text2image, "; use --columns text=NAME."),
        ("--seed", text2image, ", did you mean '--loop.seed'?"),
        ("--random-state", generate, "; use --seed."),
        ("--fp16", text2image, "; use --loop.precision fp16, bf16 or fp32."),
        ("--promt", generate, ", did you mean '--prompt'?"),
        ("--form", text2image, ", did you mean '--from'?"),
        ("--loop.lea", text2image, ", did you mean '--loop.learning-rate'?"),
        ("--loop.s", text2image, "."),
        ("--json", text2image, "."),
        ("--epochs", data_split, "."),
        ("--lr", generate, "."),
        ("--batch-size", data_split, "."),
    ],
)
def test_options_of_other_tools(written: str, recipe, answer: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(recipe.Config, [written, "3"], "x")
    assert str(refused.value) == f"unknown option {written.replace('_', '-')}{answer} See --help-all."


def test_habits_are_written_as_fields_are() -> None:
    assert all(name == name.lower() and "-" not in name for name in HABITS)
