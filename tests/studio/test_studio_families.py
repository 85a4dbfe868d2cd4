"""Every family through the same forms: what a model can be asked comes from the one condition that families share."""

from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, medloom
from studio_server import table

from medloom.generators.storage import load, open_generator
from medloom.recipes.commands import run_command
from medloom.studio.forms.generate import generate_words
from medloom.studio.forms.whatif import whatif_words
from medloom.studio.model_facts import ModelFacts, facts_of
from medloom.studio.results.folder import read_result

LOOP = {name: value for name, value in TINY.items() if name.startswith(("loop.", "text.", "validation", "device"))}
SMALL = {"network.condition_width": 16, "network.mask_classes": [1], "table": ["age", "smoking"], **LOOP}


def gan(table: Path, out: Path) -> Path:
    network = {"network.widths": [8, 16], "network.blocks": 1, "network.attention": [False, False], "network.style": 8}
    discriminator = {"gan.width": 8, "gan.layers": 1, "gan.pool": 4, "image_size": [16]}
    return run_command("train gan", data=table, out=out, **{**SMALL, **network, **discriminator})


def tokens(table: Path, out: Path) -> Path:
    small = {"codes": 16, "code_width": 4, "discriminator_width": 4, "discriminator_layers": 1, "widths": [8, 8, 8]}
    autoencoder = {f"autoencoder.{name}": value for name, value in small.items()}
    training = {name: value for name, value in LOOP.items() if not name.startswith("text.")}
    own: dict[str, Any] = {"kind": "vq", "image_size": [16], **autoencoder, **training}
    vq = run_command("train autoencoder", data=table, out=out.parent / "vq", **own)
    network = {"network.width": 32, "network.layers": 1, "network.heads": 2, "network.mask": "channels"}
    return run_command("train tokens", data=table, tokenizer=vq, out=out, **{**SMALL, **network})


@pytest.mark.parametrize("train", [gan, tokens])
def test_each_family_is_asked_by_the_same_forms(table: Path, tmp_path: Path, train: Any) -> None:
    run = train(table, tmp_path / "run")
    facts = facts_of(load(run, "cpu"), open_generator(run))
    assert facts == ModelFacts.from_dict(facts.to_dict())
    assert {column.name for column in facts.table} == {"age", "smoking"}
    assert (facts.steps is None) == (train is gan)
    form = {"modality": "Disc", "text": "A disc, left.", "mask": "m0.png", "column.age": "40", "n": "2", "seed": "5"}
    form |= {"column.smoking": "never", "steps": "3", "guidance": "2"}
    words, _ = generate_words(run, facts, form, lambda chosen: table.parent / chosen)
    assert medloom(["generate", *words, f"--out={tmp_path / 'made'}", "--device=cpu"]) == 0
    assert [image.seed for image in read_result(tmp_path / "made").images] == ["5", "6"]
    asked = {"set.smoking": "current", "was.smoking": "never", "n": "1", "steps": "3"}
    words, _ = whatif_words(run, facts, asked, [], table)
    assert medloom(["whatif", *words, f"--out={tmp_path / 'asked'}", "--device=cpu"]) == 0
    assert {image.arm for image in read_result(tmp_path / "asked").images} == {"factual", "smoking=current"}
