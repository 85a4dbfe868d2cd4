"""Forms: a command line of what was filled in, and a sentence on every field that is wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from medloom.core.config import parse
from medloom.core.errors import UserError
from medloom.recipes.edit import Config as EditConfig
from medloom.recipes.generate import Config
from medloom.recipes.whatif import Config as WhatifConfig
from medloom.studio.forms.edit import edit_words
from medloom.studio.forms.generate import generate_words
from medloom.studio.forms.reading import FormError
from medloom.studio.forms.whatif import whatif_words
from medloom.studio.model_facts import ColumnFacts, ModelFacts

FACTS = ModelFacts(
    family="diffusion",
    dims=2,
    size=(64, 64),
    colour=False,
    units={"CT": "HU", "MRI": "relative"},
    windows={"CT": (-1000, 400), "MRI": (0, 1)},
    views=("axial", "coronal"),
    only_view=None,
    parts=("text", "view", "mask"),
    needs=("text",),
    columns=(ColumnFacts("age", (), 18, 90, True), ColumnFacts("smoking", ("never", "current"), 0, 0, False)),
    worded=(),
    mask_classes={"1": "lung"},
    hidden=(),
    steps=20,
    guidance=2.0,
    can_guide=True,
    days=False,
    finds_regions=False,
    patches=False,
)


def words_of(form: Mapping[str, str], **changed: Any) -> list[str]:
    facts = ModelFacts.from_dict({**FACTS.to_dict(), **changed})
    words, _ = generate_words(Path("runs/mm"), facts, form, lambda chosen: Path(f"masks/{chosen}"))
    return words


def wrong(form: Mapping[str, str], **changed: Any) -> dict[str, str]:
    with pytest.raises(FormError) as caught:
        words_of(form, **changed)
    return caught.value.fields


GOOD = {"modality": "CT", "text": "effusion, --n=7 = large", "column.age": "60", "n": "3", "seed": "5"}


def test_a_form_is_a_command_line() -> None:
    form = {
        **GOOD,
        "column.smoking": "never",
        "view": "axial",
        "mask": "m1",
        "steps": "9",
        "guidance": "3",
        "strip": "on",
    }
    words = words_of({**form, "negative": "blur"})
    config = parse(Config, [*words, "--out=images"], "generate")
    assert (config.modality, config.view, config.prompt) == ("CT", "axial", "effusion, --n=7 = large")
    assert (config.n, config.seed, config.steps, config.guidance) == (3, 5, 9, ("3",))
    assert (config.table, config.mask, config.show_steps) == ("age=60,smoking=never", Path("masks/m1"), True)
    assert config.negative == "blur"


def test_what_a_model_does_not_have_is_not_asked_for() -> None:
    words = words_of({**GOOD, "steps": "9", "guidance": "3", "strip": "on"}, steps=None, guidance=None, can_guide=False)
    assert not any(word.startswith(("--steps", "--guidance", "--show-steps")) for word in words)
    assert not any(word.startswith("--prompt") for word in words_of(GOOD, parts=["mask"], needs=[]))


def test_every_mistake_is_named_by_its_field() -> None:
    found = wrong({"modality": "CTT", "text": " ", "column.age": "200", "n": "0", "seed": "x", "steps": "5000"})
    assert found["modality"].startswith("The modality 'CTT' is not known, did you mean 'CT'?")
    assert found["text"] == "Say what the images should show: every training image had a text."
    assert found["column.age"].startswith("age is '200'; give a number from 18 to 90, as in training")
    assert found["n"] == "The number of images is '0'; give a whole number from 1 to 64."
    assert set(found) == {"modality", "text", "column.age", "n", "seed", "steps"}


def test_values_outside_of_training_only_where_that_is_said() -> None:
    assert "column.age" in wrong({**GOOD, "column.age": "95"})
    words = words_of({**GOOD, "column.age": "95", "beyond": "on"})
    assert "--table=age=95" in words and "--allow-unseen" in words
    assert "column.smoking" in wrong({**GOOD, "column.smoking": "sometimes", "beyond": "on"})
    assert wrong({**GOOD, "column.age": ""})["column.age"] == "Give age: every training image had a value."
    for number in ("nan", "inf", "1e999", "ten"):
        assert "column.age" in wrong({**GOOD, "column.age": number, "beyond": "on"})


def test_a_text_to_avoid_needs_guidance() -> None:
    assert "negative" in wrong({**GOOD, "negative": "blur", "guidance": "1"})
    assert "negative" in wrong({**GOOD, "negative": "blur"}, guidance=1.0)


def test_a_mask_that_is_needed(tmp_path: Path) -> None:
    assert wrong(GOOD, needs=["text", "mask"])["mask"].startswith("Pick a mask or bring one")

    def gone(chosen: str) -> Path:
        raise UserError("there is no such file")

    with pytest.raises(UserError, match="there is no such file"):
        generate_words(tmp_path, FACTS, {**GOOD, "mask": "x"}, gone)


def test_texts_of_any_length_are_read_up_to_a_limit() -> None:
    assert "at most 10000 are read" in wrong({**GOOD, "text": "x" * 10_001})["text"]


def test_what_if_takes_what_was_changed_alone() -> None:
    form = {"set.age": "17", "was.age": "17", "set.smoking": "current", "was.smoking": "never", "n": "3"}
    words, title = whatif_words(Path("runs/mm"), FACTS, form, ["age=40", "age=40"], Path("case.csv"))
    config = parse(WhatifConfig, [*words, "--out=w"], "whatif")
    assert (config.set, config.n, config.rows) == (("age=40", "smoking=current"), 3, 1)
    assert title == "what if age=40; smoking=current"
    with pytest.raises(FormError) as caught:
        whatif_words(Path("runs/mm"), FACTS, {"set.age": "17", "was.age": "17"}, [], Path("case.csv"))
    assert caught.value.fields == {"": "Change something: what would the image look like if it were different?"}
    with pytest.raises(FormError) as caught:
        whatif_words(Path("runs/mm"), FACTS, {"set.age": "99", "was.age": "17"}, [], Path("case.csv"))
    assert "give a number from 18 to 90" in caught.value.fields["set.age"]


def test_an_edit_names_its_prior_image_and_region() -> None:
    form = {"prior": "p", "text": "Resolved.", "region": "brush", "drawn": "d", "start": "prior", "strength": "0.5"}
    facts = ModelFacts.from_dict({**FACTS.to_dict(), "parts": ["text", "prior"], "columns": []})

    def find(chosen: str) -> Path:
        return Path("files") / chosen

    words, _ = edit_words(Path("runs/edit"), facts, {**form, "modality": "CT"}, find, find)
    config = parse(EditConfig, [*words, "--out=e"], "edit")
    assert (config.image, config.text, config.region) == (Path("files/p"), "Resolved.", "files/d")
    assert (config.start, config.strength) == ("prior", 0.5)
    with pytest.raises(FormError) as caught:
        edit_words(Path("runs/edit"), facts, {"region": "auto"}, find, find)
    assert set(caught.value.fields) == {"prior", "text", "region"}
