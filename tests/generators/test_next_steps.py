"""The command that a training names at its end can be typed: it has what the model requires of a condition."""

import pytest

from medloom.core.config import configure
from medloom.generators.diffusion.options import TextToImage
from medloom.generators.tokens.options import GenerateTokens

BY_PROMPT = "medloom generate --model run --out DIR --prompt ..."
BY_TABLE = "medloom generate --model run --data MANIFEST --out DIR"


@pytest.mark.parametrize("task", [TextToImage, GenerateTokens])
@pytest.mark.parametrize(
    ("values", "step"),
    [({}, BY_PROMPT), ({"network.mask": "channels"}, BY_TABLE), ({"table": ("age",)}, BY_TABLE)],
)
def test_a_model_of_masks_or_columns_is_used_with_a_table(task, values, step) -> None:
    more = {"tokenizer": "vq"} if task is GenerateTokens else {}
    assert configure(task, data="a.csv", out="run", **more, **values).next_step == step
