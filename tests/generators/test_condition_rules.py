"""What models of all families refuse: what no training image had, and conditions without what every one had."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import token_rows
from test_one_door import FAMILIES, MASK, PRIOR, QUICK, condition_of, model_of

import medloom
from medloom.core.errors import UserError
from medloom.core.files import read_json, write_json
from medloom.core.types import Condition
from medloom.generators.sampling import DiffusionSampling, Edit, TokenSampling
from medloom.generators.training_record import TrainingRecord, has_part

TABLE = {"age": 50.0, "ward": "north"}
WHOLE: dict[str, Any] = {"text": "a disc", "mask": MASK, "prior": PRIOR, "table": TABLE}
GUIDED = ("diffusion", "tokens")


def whole_of(family: str, **parts: Any) -> Condition:
    """A condition with all parts that models of a family can be trained with."""
    given = {**WHOLE, "prior": None} if family == "gan" else WHOLE
    return replace(condition_of(family), **{**given, **parts})


def trained(family: str, *conditions: Condition, guided: bool = True) -> Any:
    """A model of all parts that remembers some training conditions; without any, those with all parts."""
    model = model_of(family, mask=True, prior=family != "gan")
    model.remember(TrainingRecord.of(conditions or (whole_of(family),), model.columns, guided))
    return model


def parts_of(family: str) -> list[str]:
    return ["text", "mask", *([] if family == "gan" else ["prior"]), "age", "ward"]


def less(condition: Condition, part: str) -> Condition:
    """A condition without a part, or a column of the table."""
    if part in TABLE:
        return replace(condition, table={**condition.table, part: None})
    return replace(condition, **{part: None})


EVERY = [(family, part) for family in FAMILIES for part in parts_of(family)]


@pytest.mark.parametrize(("family", "part"), EVERY)
def test_what_every_training_image_had_is_required(family: str, part: str) -> None:
    model, condition = trained(family), whole_of(family)
    assert len(model.generate(condition, seed=0, sampling=QUICK[family])) == 1
    name = {"prior": "prior image", "age": "value of age", "ward": "value of ward"}.get(part, part)
    sentence = f"^the condition has no {name}, which every training image had; .*{part}"
    with pytest.raises(UserError, match=sentence):
        model.generate(less(condition, part), seed=0)
    with pytest.raises(UserError, match=f"^1 of 2 conditions have no {name}, which every training image had"):
        model.generate([condition, less(condition, part)], seeds=[1, 2])
    assert (part in model.rules.needs) is (part not in TABLE)


@pytest.mark.parametrize(("family", "part"), EVERY)
def test_what_some_training_images_lacked_is_unknown_and_said(family: str, part: str) -> None:
    condition = whole_of(family)
    model = trained(family, condition, less(condition, part))
    name = {"prior": "prior image", "age": "value of age", "ward": "value of ward"}.get(part, part)
    with pytest.warns(UserWarning, match=f"^1 of 2 conditions have no {name}: drawn as unknown.$"):
        made = model.generate([condition, less(condition, part)], seeds=[1, 2], sampling=QUICK[family])
    assert len(made) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(condition, seed=1, sampling=QUICK[family])


@pytest.mark.parametrize(("family", "part"), [(family, part) for family, part in EVERY if part not in TABLE])
def test_what_no_training_image_had_is_refused(family: str, part: str) -> None:
    model = trained(family, less(whole_of(family), part))
    with pytest.raises(
        UserError, match=f"^no training image had a .*{part}.*: the model cannot follow one; leave it out"
    ):
        model.generate(whole_of(family), seed=0)
    model.check([less(whole_of(family), part)])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_text_is_none(family: str) -> None:
    assert not has_part(Condition(text=" \n"), "text") and has_part(Condition(text="a"), "text")
    with pytest.raises(UserError, match="no text, which every training image had"):
        trained(family).check([whole_of(family, text="  ")])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_without_a_record_is_asked_as_before(family: str) -> None:
    model = model_of(family, mask=True)
    assert model.rules.needs == () and model.can_guide
    model.check([Condition(modality="Disc")])


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_outside_training_are_refused_unless_allowed(family: str) -> None:
    model = trained(family)
    age = model.columns[0]
    assert (age.name, age.low, age.high) == ("age", 30.0, 90.0)
    for value in (29.9, -5, "1000"):
        outside = whole_of(family, table={**TABLE, "age": value})
        with pytest.raises(UserError, match=r"^training has not seen age=.*; seen: 30 to 90; .*--allow-unseen"):
            model.generate(outside, seed=0)
        with pytest.warns(UserWarning, match="the condition is outside what training has seen"):
            assert len(model.generate(outside, seed=0, sampling=QUICK[family], allow_unseen=True)) == 1
    for value in (30, 90, None):
        assert model.rules.unseen(whole_of(family, table={**TABLE, "age": value})) is None


def test_ages_above_the_cap_are_seen_where_training_had_any() -> None:
    model = trained("diffusion")
    capped = replace(model.columns[0], cap=89.0)
    assert capped.has(90.0) and capped.has(97.0) and capped.read("95") == capped.read("90+") == 90.0
    assert not replace(capped, high=63.0).has(97.0)


def test_the_one_view_of_training_needs_no_name() -> None:
    """An image is then that of the view, which the network always saw; of several views, none is said to be unknown."""
    model, condition = trained("diffusion"), whole_of("diffusion")
    assert condition.view == "left" and model.rules.only_view == "left"
    bare = replace(condition, view=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = [model.generate(each, seed=3, sampling=QUICK["diffusion"]).pixels for each in (condition, bare)]
    np.testing.assert_array_equal(*made)
    some = trained("diffusion", condition, bare)
    assert some.rules.only_view is None
    with pytest.warns(UserWarning, match="the condition has no view: drawn as unknown"):
        other = some.generate(bare, seed=3, sampling=QUICK["diffusion"]).pixels
    assert np.abs(other - made[0]).max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_that_are_cut_are_said(family: str) -> None:
    model, long = trained(family), "a disc on the left " * 9
    with pytest.warns(
        UserWarning, match=r"^1 of 2 texts are longer than the 24 tokens that the model reads; up to \d+"
    ):
        conditions = [whole_of(family), whole_of(family, text=long)]
        model.generate(conditions, seeds=[1, 2], sampling=QUICK[family])
    if family in GUIDED:
        sampling = replace(QUICK[family], guidance=2.0, negative=long)
        with pytest.warns(UserWarning, match="1 of 2 texts are longer than the 24 tokens"):
            model.generate(whole_of(family), seed=1, sampling=sampling)


@pytest.mark.parametrize("family", GUIDED)
def test_a_model_without_the_empty_condition_is_not_guided(family: str) -> None:
    model, kind = trained(family, guided=False), type(QUICK[family])
    assert model.sampling.guidance == 1.0 and model_of(family).sampling.guidance == 2.0
    model.check([whole_of(family)])
    for asked in ({"guidance": 7.5}, {"guidance_by_part": {"text": 3.0}}, {"guidance": 0.0}):
        with pytest.raises(UserError, match=r"^--guidance .*: the model was trained with --text.dropout 0"):
            model.generate(whole_of(family), seed=0, sampling=replace(kind(steps=2, guidance=1.0), **asked))
    model.check([whole_of(family)], kind(steps=2, guidance=1.0, guidance_by_part={"text": 1.0}))
    trained(family).check([whole_of(family)], kind(steps=2, guidance=7.5))


def test_an_inversion_needs_a_model_that_was_trained_without_instructions_too() -> None:
    condition, start = whole_of("diffusion"), Edit(start="inversion")
    with pytest.raises(UserError, match=r"^--start inversion: the model was trained with --text.dropout 0"):
        trained("diffusion", guided=False).check([condition], QUICK["diffusion"], start)
    trained("diffusion").check([condition], QUICK["diffusion"], start)
    trained("diffusion", condition, less(condition, "text"), guided=False).check([condition], QUICK["diffusion"], start)
    # An instruction for no change is one.
    null = replace(QUICK["diffusion"], negative="No change.")
    trained("diffusion", guided=False).check([condition], null, start)


@pytest.mark.parametrize("family", GUIDED)
def test_a_negative_text_that_nothing_looks_at_is_refused(family: str) -> None:
    model, kind = trained(family), type(QUICK[family])
    with pytest.raises(UserError, match="^--negative replaces the empty text"):
        model.check([whole_of(family)], kind(steps=2, guidance=1.0, negative="noise"))
    for asked in ({"guidance": 2.0}, {"guidance": 1.0, "guidance_by_part": {"text": 2.0}}):
        model.check([whole_of(family)], replace(kind(steps=2, negative="noise"), **asked))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_record_is_kept_with_the_model(family: str, tmp_path: Path) -> None:
    model = trained(family, whole_of(family), less(whole_of(family), "mask"), guided=False)
    (tmp_path / "run" / "model").mkdir(parents=True)
    model.save(tmp_path / "run" / "model")
    write_json(tmp_path / "run" / "index.json", {"family": family})
    loaded = medloom.load(tmp_path / "run", device="cpu")
    assert loaded.trained_on == model.trained_on and loaded.sampling == model.sampling
    assert not loaded.can_guide and "mask" not in loaded.rules.needs and "text" in loaded.rules.needs
    # A model of a version that kept none is asked as before.
    settings = read_json(tmp_path / "run/model/generator.json")
    write_json(tmp_path / "run/model/generator.json", {n: v for n, v in settings.items() if n != "trained_on"})
    assert medloom.load(tmp_path / "run", device="cpu").trained_on is None


def test_a_run_that_continues_another_adds_what_it_was_trained_on() -> None:
    condition, columns = whole_of("diffusion"), model_of("diffusion").columns
    first = TrainingRecord.of([condition] * 3, columns, guided=True)
    bare = replace(condition, mask=None, table={"age": None, "ward": "north"})
    second = TrainingRecord.of([condition, bare], columns, guided=False)
    both = second.after(first)
    assert both.images == 5 and both.parts["mask"] == 4 and both.columns == {"age": 4, "ward": 5} and both.guided
    assert both.complete == ("text", "view", "prior") and both.complete_columns == ("ward",)
    # The earlier network had no input for a column of this run alone.
    later = replace(first, columns={**first.columns, "days": first.images}).after(second)
    assert later.complete_columns == ("ward", "days")
    assert first.complete_columns == ("age", "ward") and TrainingRecord.from_dict(both.to_dict()) == both


def test_each_of_two_stages_needs_what_its_own_images_had() -> None:
    masked = replace(token_rows.NETWORK, mask="channels", mask_classes=(1, 2))
    first = token_rows.generator_of(2, masked, columns=token_rows.COLUMNS, size=8)
    second = token_rows.generator_of(2, masked, columns=token_rows.COLUMNS, first=first)
    condition = replace(token_rows.factual(), prior=None)
    bare = replace(condition, mask=None, table={"age": 50.0, "ward": None})
    first.remember(TrainingRecord.of([condition], first.columns, guided=False))
    second.remember(TrainingRecord.of([condition, bare], second.columns, guided=True))
    assert "mask" in second.rules.needs and second.rules.record.complete_columns == ("age", "ward")
    with pytest.raises(UserError, match="no mask, which every training image had"):
        second.check([bare])
    assert second.sampling.guidance == 1.0
    with pytest.raises(UserError, match="--text.dropout 0"):
        second.check([condition], TokenSampling(steps=2, guidance=2.0))


@pytest.mark.parametrize("ask", ["pixels", "unit", "save"])
def test_nothing_is_made_of_nothing(ask: str) -> None:
    model = model_of("diffusion")
    images = model.generate([], seeds=[])
    assert len(images) == 0 and list(images) == [] and "no generated images" in repr(images)
    assert len(model.generate([], sampling=DiffusionSampling(steps=1))) == 0
    with pytest.raises(UserError, match="there are no generated images"):
        images.save("nowhere") if ask == "save" else getattr(images, ask)


@pytest.mark.parametrize(
    ("conditions", "seeds", "message"),
    [(3, [0, 1], "3 conditions and 2 seeds"), (1, [], "1 conditions and 0 seeds"), (1, [-1], "-1 is out of range")],
)
def test_conditions_and_seeds_have_to_match(conditions: int, seeds: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model_of("diffusion").generate([condition_of("diffusion")] * conditions, seeds=seeds)


@pytest.mark.parametrize("device", ["cuda:99", "tpu", 5.5, "meta"])
def test_a_device_that_is_not_there_is_refused(device: Any) -> None:
    with pytest.raises(UserError, match="^device "):
        model_of("diffusion").to(device)


@pytest.mark.parametrize("path", [5, None, ["run"]])
def test_what_is_no_path_is_not_loaded(path: Any) -> None:
    with pytest.raises(UserError, match="^load: .* is no path; give the run folder"):
        medloom.load(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_name_has_the_closest_known_one(family: str) -> None:
    with pytest.raises(
        UserError, match="modality 'disc' was never trained on, did you mean 'Disc'[?] Known: Disc, Squ"
    ):
        model_of(family).check([replace(condition_of(family), modality="disc")])
