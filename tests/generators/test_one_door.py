"""The one door to every family: image = model.generate(condition, seed), in whatever form a condition's parts are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gan_rows
import nibabel
import numpy as np
import pytest
import token_rows
import torch
from PIL import Image as Pillow

import medloom
from medloom.core.errors import UserError
from medloom.core.files import hash_folder, write_json
from medloom.core.image import Image
from medloom.core.mask_spec import MaskSpec, numbered
from medloom.core.seeds import torch_generator
from medloom.core.spec import GREY, HU, ImageSpec, Intensity
from medloom.core.types import Condition
from medloom.data.images import read_image, read_provenance
from medloom.data.manifest import read_manifest
from medloom.generators.base import ImageGenerator
from medloom.generators.diffusion.build import build_generator
from medloom.generators.diffusion.options import DenoiserOptions, NoiseOptions
from medloom.generators.options import TextOptions
from medloom.generators.sampling import (
    DiffusionSampling,
    Edit,
    Framing,
    GANSampling,
    SamplingOptions,
    TokenSampling,
)
from medloom.generators.support import SUPPORT
from medloom.generators.training_facts import TrainingFacts

SIZE = 16
FAMILIES = ("diffusion", "gan", "tokens")
EDITORS = ("diffusion", "tokens")
# The quickest that each family has.
QUICK: dict[str, SamplingOptions] = {
    "diffusion": DiffusionSampling(steps=2, guidance=1.0),
    "gan": GANSampling(),
    "tokens": TokenSampling(steps=2, guidance=1.0),
}
NETWORK = DenoiserOptions(widths=(16, 16), attention=(False, True), head_width=16, patch=1, condition_width=16)
TEXT = TextOptions(width=16, layers=1, vocabulary=600, max_tokens=24)
CORPUS = ["Disc: a disc on the left", "Square: a large square on the right"]

# One class of masks, 1 and 2.
MASK = np.zeros((SIZE, SIZE), np.uint8)
MASK[4:12, 4:12], MASK[12:, 4:12] = 1, 2
PRIOR = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
REGION = np.zeros((SIZE, SIZE), np.uint8)
REGION[:, 8:] = 1


def diffusion(spec: ImageSpec | None = None, **parts: Any) -> ImageGenerator[Any, Any]:
    network = replace(NETWORK, **parts)
    spec = spec or gan_rows.spec_of(2, SIZE)
    masks = MaskSpec(numbered(network.mask_classes))
    facts = TrainingFacts(CORPUS, sorted(spec.intensity), ["left"], gan_rows.COLUMNS, masks)
    return build_generator(spec, facts, None, network, TEXT, NoiseOptions(), 0)


def model_of(family: str, mask: bool = False, prior: bool = False) -> ImageGenerator[Any, Any]:
    """A tiny model with random weights in every branch, trained on nothing; a GAN always takes masks."""
    way, classes, before = ("channels" if part else "none" for part in (mask, mask, prior))
    parts: dict[str, Any] = {"mask": way, "mask_classes": (1, 2) if classes == "channels" else (), "prior": before}
    if family == "diffusion":
        model = diffusion(**parts)
    elif family == "gan":
        model = gan_rows.generator_of(size=SIZE)
    else:
        model = token_rows.generator_of(2, replace(token_rows.NETWORK, **parts), columns=gan_rows.COLUMNS)
    with torch.no_grad():
        for name, parameter in model.model.named_parameters():
            if not parameter.any():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch_generator(name)))
    return model


def condition_of(family: str, **parts: Any) -> Condition:
    """A condition that the family's models accept: a GAN's has a mask."""
    mask = {"mask": MASK} if family == "gan" else {}
    return Condition("a disc on the left", "Disc", "left", **{**mask, **parts})


def image_file(path: Path, pixels: np.ndarray) -> Path:
    Pillow.fromarray(pixels).save(path)
    return path


def forms(path: Path, pixels: np.ndarray) -> dict[str, Any]:
    """One image part in every form: a file's path, its name, an `Image`, and bare values."""
    values = pixels.astype(np.float32)
    file = image_file(path, pixels)
    return {"path": file, "name": str(file), "image": Image(values[None], GREY, 255.0), "array": pixels}


@pytest.mark.parametrize("family", FAMILIES)
def test_one_condition_and_k_seeds_or_pairs(family: str) -> None:
    model, first = model_of(family), condition_of(family)
    second = replace(first, text="a large square on the right", modality="Square")
    sampling = QUICK[family]
    several = model.generate(first, seeds=range(3), sampling=sampling)
    assert [image.seed for image in several] == [0, 1, 2] and several.pixels.shape == (3, 1, SIZE, SIZE)
    assert several.unit == GREY and several.pixels.min() >= 0 and several.pixels.max() <= 255
    assert all(image.condition.text == first.text for image in several)
    # An image is a function of its condition and seed.
    (alone,) = model.generate(first, seed=2, sampling=sampling)
    np.testing.assert_allclose(alone.pixels, several[2].pixels, atol=0.01)
    assert np.abs(several[0].pixels - several[1].pixels).max() > 0.1
    pairs = model.generate([first, second], seeds=[2, 5], sampling=sampling)
    np.testing.assert_allclose(pairs[0].pixels, alone.pixels, atol=0.01)
    (other,) = model.generate(second, seed=5, sampling=sampling)
    np.testing.assert_allclose(pairs[1].pixels, other.pixels, atol=0.01)
    # Without seeds: 0, 1, ... one a condition.
    assert [image.seed for image in model.generate([first, second], sampling=sampling)] == [0, 1]
    assert len(pairs[:1]) == 1 and pairs[:1][0] is pairs[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("conditions", "given", "message"),
    [
        (2, {"seeds": [1, 2, 3]}, "2 conditions and 3 seeds"),
        (2, {"seed": 1}, "2 conditions and one seed; give a seed for each"),
        (1, {"seed": 1, "seeds": [2]}, "one seed, or seeds, not both"),
        (1, {"seeds": []}, "0 conditions and 0 seeds|1 conditions and 0 seeds"),
        (0, {"seeds": [1]}, "0 conditions and 1 seeds|conditions and one seed"),
        (1, {"seed": -1}, "seed"),
    ],
)
def test_numbers_that_do_not_match_are_refused(
    family: str, conditions: int, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        model_of(family).generate([condition_of(family)] * conditions, **given)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_is_the_same_in_every_form(family: str, tmp_path: Path) -> None:
    model, sampling = model_of(family, mask=True), QUICK[family]
    made = {
        form: model.generate(condition_of(family, mask=mask), seed=3, sampling=sampling).pixels
        for form, mask in forms(tmp_path / "mask.png", MASK).items()
    }
    assert all(np.array_equal(pixels, made["path"]) for pixels in made.values())
    other = model.generate(condition_of(family, mask=MASK.T.copy()), seed=3, sampling=sampling).pixels
    assert np.abs(other - made["path"]).max() > 0.1


@pytest.mark.parametrize("family", EDITORS)
def test_a_prior_image_is_the_same_in_every_form(family: str, tmp_path: Path) -> None:
    model, sampling = model_of(family, prior=True), QUICK[family]
    made = {
        form: model.generate(condition_of(family, prior=prior), seed=3, sampling=sampling).pixels
        for form, prior in forms(tmp_path / "prior.png", PRIOR).items()
    }
    assert all(np.array_equal(pixels, made["path"]) for pixels in made.values())
    # An image whose full scale is not named is in levels out of 255.
    bare = condition_of(family, prior=Image(PRIOR[None].astype(np.float32), GREY))
    np.testing.assert_array_equal(model.generate(bare, seed=3, sampling=sampling).pixels, made["path"])
    other = model.generate(condition_of(family, prior=255 - PRIOR), seed=3, sampling=sampling).pixels
    assert np.abs(other - made["path"]).max() > 0.1


@pytest.mark.parametrize("family", EDITORS)
def test_nothing_changes_outside_of_a_region_in_every_form(family: str, tmp_path: Path) -> None:
    model, sampling = model_of(family, prior=True), QUICK[family]
    made = {
        form: model.edit(PRIOR, "a disc", modality="Disc", seed=0, sampling=sampling, edit=Edit(region=region)).pixels
        for form, region in forms(tmp_path / "region.png", REGION).items()
        if form != "name"
    }
    assert all(np.array_equal(pixels, made["path"]) for pixels in made.values())
    with pytest.raises(UserError, match="region of 20 x 16 pixels and a prior image"):
        model.edit(PRIOR, "a disc", modality="Disc", seed=0, edit=Edit(region=np.ones((20, SIZE), np.uint8)))
    with pytest.raises(UserError, match="give Edit to a"):
        model.edit(PRIOR, "a disc", modality="Disc", seed=0, edit="inversion")  # type: ignore[arg-type]
    change = np.abs(made["path"][0, 0] - PRIOR)
    assert change[:, :8].max() < 0.01 < change[:, 8:].max()


@pytest.mark.parametrize("family", EDITORS)
def test_a_region_that_is_found_is_where_the_instruction_makes_a_difference(family: str) -> None:
    model, auto = model_of(family, prior=True), Edit(region="auto")
    sampling = replace(QUICK[family], negative="nothing")
    edited, same = (
        model.edit(PRIOR, text, modality="Disc", seeds=[0, 1], sampling=sampling, edit=auto)
        for text in ("a disc", "nothing")
    )
    # Compared with itself an instruction makes none, and the prior image stays, whatever the network would make of it.
    np.testing.assert_allclose(same.pixels[:, 0], np.stack([PRIOR, PRIOR]), atol=0.01)
    assert np.abs(edited.pixels[:, 0] - PRIOR).max(axis=(1, 2)).min() > 1
    anywhere = model.edit(PRIOR, "nothing", modality="Disc", seeds=[0, 1], sampling=QUICK[family])
    assert np.abs(anywhere.pixels[:, 0] - PRIOR).mean() > 1
    # Without a prior image there is nothing to keep.
    free = condition_of(family)
    made = model.generate(free, seed=0, sampling=sampling, edit=auto).pixels
    np.testing.assert_allclose(made, model.generate(free, seed=0, sampling=QUICK[family]).pixels, atol=0.01)
    with pytest.raises(UserError, match=r"no training image had the instruction 'No change\.'"):
        model.edit(PRIOR, "a disc", modality="Disc", seed=0, sampling=QUICK[family], edit=auto)


@pytest.mark.parametrize("family", EDITORS)
def test_an_edit_is_the_generation_from_prior_and_text(family: str, tmp_path: Path) -> None:
    model, sampling = model_of(family, prior=True), QUICK[family]
    prior = image_file(tmp_path / "prior.png", PRIOR)
    edited = model.edit(str(prior), "a disc on the left", modality="Disc", view="left", seed=0, sampling=sampling)
    (same,) = model.generate(condition_of(family, prior=prior), seed=0, sampling=sampling)
    assert len(edited) == 1 and np.array_equal(edited[0].pixels, same.pixels)
    assert edited[0].condition.prior == prior and edited[0].condition.text == "a disc on the left"
    assert len(model.edit(prior, "a disc", modality="Disc", seeds=range(3), sampling=sampling)) == 3
    started = model.edit(prior, "a disc", modality="Disc", seed=0, sampling=sampling, edit=Edit("prior", 0.5))
    assert not np.array_equal(started.pixels, edited.pixels)


def test_an_editor_by_its_defaults() -> None:
    """`model.edit(prior, text, seed=0)`, of a model of one modality."""
    spec = ImageSpec((SIZE, SIZE), 1, "pad", {"X-ray": Intensity("window", GREY, 0, 255)})
    model = diffusion(spec, prior="channels")
    assert model.edit(PRIOR, "the disc has gone", seed=0).pixels.shape == (1, 1, SIZE, SIZE)


@pytest.mark.parametrize(
    ("family", "part"),
    [("diffusion", "mask"), ("diffusion", "prior"), ("gan", "prior"), ("tokens", "mask"), ("tokens", "prior")],
)
def test_a_part_that_the_model_was_not_trained_with_gives_the_sentence_of_the_support_table(
    family: str, part: str
) -> None:
    model = model_of(family)
    rows = [row for row in SUPPORT if row.family == family and row.part == part]
    ways = sorted({row.fusion for row in rows if row.supported})
    sentence = (
        f"the model was trained without a {part}; leave it out, or train with --network.{part} {' or '.join(ways)}."
        if ways
        else f"{part} is not supported by the {family} family: {rows[0].instead}."
    )
    with pytest.raises(UserError) as refused:
        model.generate(condition_of(family, **{part: {"mask": MASK, "prior": PRIOR}[part]}), seed=0)
    assert str(refused.value) == sentence
    if part == "prior":
        with pytest.raises(UserError) as refused:
            model.edit(PRIOR, "a disc", modality="Disc", seed=0)
        assert family == "gan" or str(refused.value) == sentence


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"modality": "Ring"}, "Ring"),
        ({"modality": None}, "name a modality; known: Disc, Square"),
        ({"view": "right"}, "right"),
        ({"table": {"agee": 50.0}}, "agee.*did you mean 'age'"),
        ({"table": {"ward": "west"}}, "west"),
        ({"table": {"age": "old"}}, "old"),
    ],
)
def test_what_the_model_does_not_know_is_refused(family: str, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model_of(family).generate(replace(condition_of(family), **parts), seed=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_cells_of_the_table_change_the_image_and_may_be_left_out(family: str) -> None:
    model, sampling = model_of(family), QUICK[family]
    cells = [{"age": 35.0, "ward": "north"}, {"age": 85.0, "ward": "north"}, {}, {"age": None, "ward": None}]
    conditions = [condition_of(family, table=table) for table in cells]
    images = model.generate(conditions, seeds=[1] * 4, sampling=sampling)
    assert np.abs(images[0].pixels - images[1].pixels).max() > 1e-3
    np.testing.assert_allclose(images[2].pixels, images[3].pixels, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((SIZE, SIZE), 9, np.uint8), "the mask in memory: label 9 is not one of the mask classes"),
        (np.full((SIZE, SIZE), 0.5, np.float32), "the mask in memory is not a label map"),
        (np.zeros((SIZE, SIZE, SIZE), np.uint8), "the mask in memory has 3 spatial axes and the model 2"),
        (Path("none.png"), "none.png"),
    ],
)
def test_masks_that_are_none_are_refused(family: str, mask: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        model_of(family, mask=True).generate(condition_of(family, mask=mask), seed=0)


@pytest.mark.parametrize("family", EDITORS)
@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (np.full((SIZE, SIZE), 9, np.uint8), "the image in memory is constant"),
        (np.where(PRIOR > 9, np.nan, PRIOR), "not finite"),
        (PRIOR.astype(np.float32) / 127.5 - 1, "in memory has values from -1 to 1; levels are 0 to 255"),
        (PRIOR.astype(np.int32) * 100, "in memory has values from 0 to 25500; levels are 0 to 255"),
        (
            np.zeros((SIZE,) * 4) + np.arange(SIZE),
            r"in memory has the shape \(16, 16, 16, 16\); give an image of 2 axes",
        ),
        (np.zeros((SIZE,) * 3) + np.arange(SIZE), "a colour image cannot be put into the model's one channel"),
        (
            Image(np.zeros((1, *(SIZE,) * 3), np.float32) + np.arange(SIZE), GREY),
            "16 x 16 x 16 has 3 axes",
        ),
        (Image(PRIOR[None].astype(np.float32), HU), "in HU and the model's window is in grey level"),
        (Path("none.png"), "none.png"),
    ],
)
def test_prior_images_that_do_not_fit_are_refused(family: str, prior: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        model_of(family, prior=True).generate(condition_of(family, prior=prior), seed=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_image_is_saved_by_the_ending_of_its_name(family: str, tmp_path: Path) -> None:
    images = model_of(family).generate(condition_of(family), seeds=[4, 5], sampling=QUICK[family])
    assert images[0].save(tmp_path / "one.png") == tmp_path / "one.png"
    assert images[1:].save(tmp_path / "other.dcm") == tmp_path / "other.dcm"
    for path, image in ((tmp_path / "one.png", images[0]), (tmp_path / "other.dcm", images[1])):
        assert np.abs(read_image(path).pixels - image.pixels).max() <= 0.5
        said = read_provenance(path)
        assert said["SYNTHETIC"] == "YES" and said["seed"] == str(image.seed)
        assert said["condition"] == image.condition.hash() and "disc" not in str(said).lower()
    images[0].save(tmp_path / "full.png", full_provenance=True)
    assert read_provenance(tmp_path / "full.png")["text"] == "a disc on the left"
    with pytest.raises(UserError, match="2 images do not go into one file; name a folder"):
        images.save(tmp_path / "both.png")


@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_saved_to_a_folder_with_a_manifest(family: str, tmp_path: Path) -> None:
    first = condition_of(family)
    second = replace(first, text="a large square on the right", modality="Square", view=None)
    images = model_of(family).generate([first, second], seeds=[4, 5], sampling=QUICK[family])
    folder = images.save(tmp_path / "out", full_provenance=True)
    manifest = read_manifest(folder / "manifest.csv", need_patients=False)
    assert len(manifest) == 2
    # Else it holds no texts, which may be a table's.
    plain = read_manifest(images.save(tmp_path / "plain") / "manifest.csv", need=("path",), need_patients=False)
    hashes = [sample.condition.table["condition"] for sample in plain.samples()]
    assert "text" not in plain.frame and hashes == [image.condition.hash() for image in images]
    for sample, image in zip(manifest.samples(), images, strict=True):
        known = sample.condition
        wanted = image.condition
        assert (known.text, known.modality, known.view) == (wanted.text, wanted.modality, wanted.view)
        assert known.table["seed"] == image.seed
        assert read_provenance(sample.path)["SYNTHETIC"] == "YES"
        assert np.abs(read_image(sample.path).pixels - image.pixels).max() <= 0.5
    with pytest.raises(UserError, match="names? no format|--format"):
        images.save(tmp_path / "as", format="gif")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; name a new folder"):
        images.save(tmp_path / "mine")
    # A second save into a folder would leave images of the first one that its manifest does not list.
    with pytest.raises(UserError, match="is not empty; name a new folder"):
        images[:1].save(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rows_of_a_manifest_are_conditions_in_one_call(family: str, tmp_path: Path) -> None:
    model, table = model_of(family, mask=True), tmp_path / "rows.csv"
    image_file(tmp_path / "mask.png", MASK)
    table.write_text(
        "path,Text,modality,mask,age,ward,doctor\n"
        "a.png,a disc,Disc,mask.png,61,north,House\n"
        "b.png,a large square,Square,mask.png,,south,Grey\n"
    )
    manifest = read_manifest(table, need=(), need_patients=False)
    conditions = model.conditions(manifest)
    assert [condition.text for condition in conditions] == ["a disc", "a large square"]
    assert [dict(condition.table) for condition in conditions] == [
        {"age": 61.0, "ward": "north"},
        {"age": None, "ward": "south"},
    ]
    assert len(model.generate(conditions, sampling=QUICK[family])) == 2
    # A column that the model does not know is a slip of the pen in a condition by hand.
    with pytest.raises(UserError, match="doctor"):
        model.generate(manifest.samples()[0].condition, seed=0)
    table.write_text("path,Text,modality,mask,age,ward\na.png,a disc,Disc,mask.png,old,north\n")
    with pytest.raises(UserError, match=r"rows.csv, line 2: .*age"):
        model.conditions(read_manifest(table, need=(), need_patients=False))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda model, one: model.generate("a disc", seed=0),
            "give a medloom.Condition, or a list of such",
        ),
        (lambda model, one: model.generate({"text": "a disc"}, seed=0), "give a medloom.Condition"),
        (lambda model, one: model.generate([one, "a disc"], seeds=[0, 1]), "give a medloom.Condition"),
        (lambda model, one: model.generate(one, seed="1"), "seed '1': give a whole number"),
        (lambda model, one: model.generate(one, seed=1.5), "seed 1.5: give a whole number"),
        (lambda model, one: model.generate(one, seeds=[True]), "seed True: give a whole number"),
        (lambda model, one: model.generate(one, seeds=3), r"seeds=3: give whole numbers, e.g. range\(4\)"),
        (
            lambda model, one: model.generate(one, seed=0, sampling={"steps": 2}),
            "give DiffusionSampling to a diffusion model, not",
        ),
        (
            lambda model, one: model.generate(one, seed=0, sampling=TokenSampling()),
            "give DiffusionSampling to a diffusion",
        ),
        (lambda model, one: model.generate(one, seed=0, edit={"start": "prior"}), "give Edit to a diffusion model"),
        (
            lambda model, one: model.generate(one, seed=0, sampling=DiffusionSampling(guidance="2")),
            "DiffusionSampling: guidance is '2'; give a number",
        ),
        (
            lambda model, one: model.generate(one, seed=0, sampling=DiffusionSampling(steps=1.5)),
            "DiffusionSampling: steps is 1.5; give a whole number",
        ),
        (
            lambda model, one: model.generate(one, seed=0, sampling=DiffusionSampling(steps="2")),
            "DiffusionSampling: steps is '2'; give a whole number",
        ),
        (
            lambda model, one: model.generate(one, seed=0, sampling=DiffusionSampling(steps=10**14)),
            "100000000000000 sampling steps; allowed: 1 to 1000",
        ),
        (
            lambda model, one: model.generate(one, seed=0, sampling=DiffusionSampling(guidance=float("nan"))),
            "guidance scale of .* is nan",
        ),
        (
            lambda model, one: model.generate(one, seed=0, sampling=DiffusionSampling(guidance_by_part=[2])),
            r"guidance_by_part is \[2\]; give scales by part",
        ),
        (
            lambda model, one: model.generate(one, seed=0, sampling=DiffusionSampling(sampler=2)),
            "sampler is 2; give a text",
        ),
        (lambda model, one: model.generate(one, seeds=[None]), "seed None: give a whole number"),
        (lambda model, one: model.conditions("x.csv"), r"'x.csv' is no manifest; give medloom.read_manifest\(PATH\)"),
        (lambda model, one: medloom.read_manifest(3), "3 is no path; give the name of a file"),
        (lambda model, one: read_image(3), "3 is no path; give the name of a file"),
        (lambda model, one: saved(model, one, 3), "3 is no path; give the name of a file"),
        (lambda model, one: Condition("a", mask=np.array([["a"]])), "mask is .*; give a file, an Image or an array of"),
        (lambda model, one: Condition("a", prior=np.array([[None]])), "prior is .*; give a file, an Image or an array"),
        (lambda model, one: Edit(region=np.array([["a"]])), "Edit: region is .*; give auto, everywhere, a file"),
        (lambda model, one: Edit(start=3), "allowed are noise, prior, inversion"),
        (lambda model, one: Condition(5, "CT"), "Condition: text is 5; give a text"),
        (lambda model, one: Condition("a", ["CT"]), "Condition: modality is"),
        (lambda model, one: Condition("a", table=["sex"]), "Condition: table is .*; give a mapping of columns"),
        (lambda model, one: Condition("a", prior=3), "Condition: prior is 3; give a file, an Image or an array"),
        (lambda model, one: Condition("a", mask=np.zeros((0, 4))), "Condition: mask is .*; give a file"),
    ],
)
def test_wrong_types_are_the_users_error(call: Callable[..., object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(model_of("diffusion"), condition_of("diffusion"))


def saved(model: ImageGenerator[Any, Any], one: Condition, path: Any) -> Path:
    return model.generate(one, seed=0, sampling=QUICK["diffusion"]).save(path)


def test_images_are_not_saved_over_or_below_a_file(tmp_path: Path) -> None:
    model, one = model_of("diffusion"), condition_of("diffusion")
    (tmp_path / "afile").write_text("mine")
    with pytest.raises(UserError, match="afile is a file; name a new folder"):
        saved(model, one, tmp_path / "afile")
    with pytest.raises(UserError, match="afile is no folder"):
        saved(model, one, tmp_path / "afile" / "x")
    with pytest.raises(UserError, match="afile is no folder"):
        saved(model, one, tmp_path / "afile" / "x.png")
    assert (tmp_path / "afile").read_text() == "mine"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("family", FAMILIES)
def test_generated_values_are_finite_or_an_error_says_why(family: str) -> None:
    model, one = model_of(family), condition_of(family)
    if family == "diffusion":
        with pytest.raises(UserError, match=r"not finite .*: --guidance 1e\+30 is too large for this model"):
            model.generate(one, seed=0, sampling=DiffusionSampling(steps=2, guidance=1e30))
    if family == "tokens":
        images = model.generate(one, seed=0, sampling=TokenSampling(steps=2, guidance=1e30))
        assert np.isfinite(images.pixels).all()
    with torch.no_grad():
        for name, weights in (model.tokenizer or model.model).named_parameters():
            weights[...] = float("nan")
            lost = name
    with pytest.raises(UserError, match=r"not finite .*the weights of the (model|tokenizer) are not"):
        model.generate(one, seed=0, sampling=QUICK[family])
    assert lost


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_prior_image_that_is_not_finite_is_one_sentence(value: float) -> None:
    prior = np.full((SIZE, SIZE), value, np.float32)
    with pytest.raises(UserError, match="the image in memory holds 256 values that are not finite"):
        model_of("diffusion", prior=True).generate(condition_of("diffusion", prior=prior), seed=0)


def test_the_manifest_of_saved_images_has_the_table_and_the_masks(tmp_path: Path) -> None:
    model, mask = model_of("diffusion", mask=True), image_file(tmp_path / "mask.png", MASK)
    condition = condition_of("diffusion", mask=mask, table={"age": 61.0, "ward": "north"})
    images = model.generate(condition, seeds=[4, 5], sampling=QUICK["diffusion"])
    assert repr(images) == "2 generated images: 1 x 16 x 16 in grey level"
    saved = images.save(tmp_path / "out", full_provenance=True)
    manifest = read_manifest(saved / "manifest.csv", need_patients=False)
    for sample in manifest.samples():
        assert sample.condition.mask_file is not None and sample.condition.mask_file.samefile(mask)
        assert sample.condition.table["age"] == 61 and sample.condition.table["ward"] == "north"
    # The manifest gives the conditions again.
    assert [dict(condition.table) for condition in model.conditions(manifest)] == [{"age": 61.0, "ward": "north"}] * 2
    with pytest.raises(UserError, match="one.jpg: images are written as .png, .tif"):
        images[:1].save(tmp_path / "one.jpg")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_for_a_model_that_reads_none_is_refused(family: str) -> None:
    model = model_of(family)
    model.reads_text = False
    condition = condition_of(family)
    with pytest.raises(UserError, match=r"trained without texts and reads none; leave the text \(--prompt\) out"):
        model.generate(condition, seed=0)
    assert len(model.generate(replace(condition, text=None), seed=0, sampling=QUICK[family])) == 1


@pytest.mark.parametrize("family", EDITORS)
def test_a_bad_prior_image_is_found_before_anything_is_sampled(family: str) -> None:
    good, bad = condition_of(family, prior=PRIOR), condition_of(family, prior=np.full((SIZE, SIZE), 9, np.uint8))
    with pytest.raises(UserError, match="the image in memory is constant"):
        model_of(family, prior=True).check([good, bad])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_is_loaded_by_its_run_folder_and_names_itself_in_its_images(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    (tmp_path / "run" / "model").mkdir(parents=True)
    model.save(tmp_path / "run" / "model")
    write_json(tmp_path / "run" / "index.json", {"family": family})
    loaded = medloom.load(tmp_path / "run", device="cpu")
    condition, sampling = condition_of(family), QUICK[family]
    (image,) = loaded.generate(condition, seed=1, sampling=sampling)
    (before,) = model.generate(condition, seed=1, sampling=sampling)
    np.testing.assert_allclose(image.pixels, before.pixels, atol=0.01)
    assert image.model_hash == hash_folder(tmp_path / "run" / "model") and before.model_hash == ""
    image.save(tmp_path / "image.png")
    assert read_provenance(tmp_path / "image.png")["model"] == image.model_hash


@pytest.mark.parametrize("family", FAMILIES)
def test_options_of_sampling_and_framing_that_do_not_fit_are_refused(family: str) -> None:
    model, condition = model_of(family), condition_of(family)
    sampling = replace(model.sampling, guidance_by_part={"prior": 2.0})
    with pytest.raises(UserError, match="prior"):
        model.generate(condition, seed=0, sampling=sampling)
    with pytest.raises(UserError, match="--crops: the model was trained on whole images"):
        model.generate(condition, seed=0, framing=Framing(crops=True))
    with pytest.raises(UserError, match="--start prior: the model takes no prior image"):
        model.generate(condition, seed=0, edit=Edit(start="prior", strength=0.5))


def patches(family: str) -> ImageGenerator[Any, Any]:
    """A model of patches of 8 pixels (12 of a GAN) in two modalities."""
    if family == "gan":
        model: ImageGenerator[Any, Any] = gan_rows.generator_of()
        model.spec = replace(model.spec, patch=True)
        return model
    spec = replace(gan_rows.spec_of(2, 8), patch=True)
    return diffusion(spec, mask="channels", mask_classes=(1, 2))


@pytest.mark.parametrize("family", ["diffusion", "gan"])
def test_a_model_of_patches_generates_an_image_of_its_mask_s_size(family: str, tmp_path: Path) -> None:
    model, sampling = patches(family), QUICK[family]
    mask = np.zeros((30, 21), np.uint8)
    mask[8:20, 5:15] = 1
    made = {
        form: model.generate(condition_of(family, mask=each), seed=3, sampling=sampling)[0].pixels
        for form, each in forms(tmp_path / "mask.png", mask).items()
    }
    assert made["path"].shape == (1, 30, 21)
    assert all(np.array_equal(pixels, made["path"]) for pixels in made.values())
    small = Framing(crops=True)
    crops = model.generate(condition_of(family, mask=mask), seeds=[1, 2], sampling=sampling, framing=small)
    assert crops.pixels.shape == (2, *model.spec.shape)
    sizes = [condition_of(family, mask=each) for each in (mask, mask.T.copy())]
    both = model.generate(sizes, sampling=sampling)
    assert [image.pixels.shape for image in both] == [(1, 30, 21), (1, 21, 30)]
    with pytest.raises(UserError, match="several sizes; take their pixels one by one"):
        _ = both.pixels
    with pytest.raises(UserError, match="generates an image of its mask's size|never trained without one"):
        model.generate(replace(condition_of(family), mask=None), seed=0)


@pytest.mark.parametrize("patch", [False, True])
def test_a_volume_lies_where_its_mask_does_in_every_form(patch: bool, tmp_path: Path) -> None:
    spec = ImageSpec((8, 8, 8), 1, "pad", {"CT": Intensity("window", HU, -1000, 1000)}, patch=patch, orientation="RAS")
    model, sampling = diffusion(spec, mask="channels", mask_classes=(1, 2)), QUICK["diffusion"]
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:6, 1:4, 3:8] = 2
    affine = np.array([[0.0, 0, 2, -5], [-1, 0, 0, 7], [0, 3, 0, 1], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "mask.nii.gz")
    read = read_image(tmp_path / "mask.nii.gz")
    images = [
        model.generate(Condition("a disc", "CT", mask=mask), seed=1, sampling=sampling)[0].image
        for mask in (tmp_path / "mask.nii.gz", read)
    ]
    np.testing.assert_array_equal(images[0].pixels, images[1].pixels)
    assert images[0].affine is not None and images[1].affine is not None
    np.testing.assert_allclose(images[0].affine, images[1].affine)
    assert images[0].unit == HU
    path = tmp_path / "made.nii.gz"
    saved = model.generate(Condition("a disc", "CT", mask=read), seed=1, sampling=sampling)[0].save(path)
    corners = [np.array(place) for place in ([0, 0, 0, 1], [7, 7, 7, 1])]
    made = nibabel.load(saved)
    lie = [sorted(tuple(np.round(each @ corner, 3)) for corner in corners) for each in (made.affine, read.affine)]
    assert patch or lie[0] == lie[1]
    # Bare labels say nothing of where they lie.
    bare = model.generate(Condition("a disc", "CT", mask=labels), seed=1, sampling=sampling)[0]
    assert bare.pixels.shape == (1, 8, 8, 8)


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many mask files were read."""
    import medloom.data.condition_reader as reader

    calls: list[Path] = []
    original = reader.read_mask

    def read(path: Path) -> Image:
        calls.append(path)
        return original(path)

    monkeypatch.setattr(reader, "read_mask", read)
    return lambda: len(calls)


def test_a_file_that_many_images_share_is_checked_once(tmp_path: Path, once: Callable[[], int]) -> None:
    model = model_of("gan")
    condition = condition_of("gan", mask=image_file(tmp_path / "mask.png", MASK))
    model.check([condition] * 10)
    assert once() == 1
