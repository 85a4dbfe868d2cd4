"""Did-you-mean: slips of the pen and habits of other tools are answered, and nothing else is guessed."""

import pytest

from medloom.core.config import HABITS, parse
from medloom.core.errors import UserError
from medloom.core.lookup import closest, did_you_mean
from medloom.generators.diffusion.options import TextToImage
from medloom.recipes import data_split, generate

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
    ("written", "config", "answer"),
    [
        ("--lr", TextToImage, "; use --loop.learning-rate."),
        ("--loop.lr", TextToImage, "; use --loop.learning-rate."),
        ("--learning_rate", TextToImage, "; use --loop.learning-rate."),
        ("--epochs", TextToImage, "; medloom counts steps, not epochs: --loop.steps."),
        ("--steps", TextToImage, "; use --loop.steps."),
        ("--batch-size", TextToImage, "; use --loop.batch."),
        ("--batch_size", generate.Config, "; use --batch."),
        ("--gpus", TextToImage, "; use --device cuda, cpu or auto."),
        ("--resolution", TextToImage, "; use --image-size."),
        ("--num-images", generate.Config, "; use --n."),
        ("--output", generate.Config, "; use --out."),
        ("--output-dir", data_split.Config, "; use --out."),
        ("--model-path", generate.Config, "; use --model."),
        ("--model-path", TextToImage, "; use --from."),
        ("--image-column", TextToImage, "; use --columns path=NAME."),
        ("--caption-column", TextToImage, "; use --columns text=NAME."),
        ("--text-column", TextToImage, "; use --columns text=NAME."),
        ("--seed", TextToImage, ", did you mean '--loop.seed'?"),
        ("--random-state", generate.Config, "; use --seed."),
        ("--fp16", TextToImage, "; use --loop.precision auto, bf16, fp16 or fp32."),
        ("--promt", generate.Config, ", did you mean '--prompt'?"),
        ("--form", TextToImage, ", did you mean '--from'?"),
        ("--loop.lea", TextToImage, ", did you mean '--loop.learning-rate'?"),
        ("--loop.s", TextToImage, "."),
        ("--json", TextToImage, "."),
        ("--epochs", data_split.Config, "."),
        ("--lr", generate.Config, "."),
        ("--batch-size", data_split.Config, "."),
    ],
)
def test_options_of_other_tools(written: str, config: type, answer: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(config, [written, "3"], "x")
    assert str(refused.value) == f"unknown option {written.replace('_', '-')}{answer} See --help-all."


def test_habits_are_written_as_fields_are() -> None:
    assert all(name == name.lower() and "-" not in name for name in HABITS)
