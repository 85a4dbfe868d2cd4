"""Extractors: their preprocessing, their errors, and the cache."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model, SwinConfig, SwinModel, ViTConfig, ViTModel

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.data.dataset import ImageSource, measure_spec
from medloom.downstream.classifier import ClassifierOptions, train_classifier
from medloom.evaluation.images.features import Sources, by_plane, check_extractor, extract, make_extractor
from medloom.evaluation.images.planes import by_slices, levels, slices
from medloom.evaluation.images.sets import ImageSet, real_set

sys.path.insert(0, str(Path(__file__).parent))
from drawn import drawn_set, read

WINDOW = Intensity("window", GREY, 0, 255)
SPEC = ImageSpec((16, 16), 1, "pad", {"dark": WINDOW, "light": WINDOW})
SOURCES = Sources(SPEC, None)
PROCESSOR = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "do_resize": True, "do_normalize": True}


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return real_set(read(drawn_set(tmp_path / "real", 12, 0)), "label", "real")


def save_model(folder: Path, kind: str = "dinov2", **settings: object) -> Path:
    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with initial_weights(0):
        if kind == "dinov2":
            model = Dinov2Model(Dinov2Config(**tiny, image_size=28, patch_size=14))
        elif kind == "vit":
            model = ViTModel(ViTConfig(**tiny, image_size=28, patch_size=14), add_pooling_layer=False)
        else:
            model = SwinModel(SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **settings}))
    return folder


def test_pixels_are_blind_to_brightness_and_contrast(images: ImageSet) -> None:
    extractor = make_extractor("pixels", SOURCES)
    one = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 1, 32, 32)).astype(np.float32)
    features = extractor.compute(np.concatenate([one, 0.5 * one + 0.2, -one, np.zeros_like(one)]))
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(features[:3] @ features[0], [1, 1, -1], atol=1e-5)
    assert extractor.spec.size == (32, 32)


def test_features_are_read_from_the_cache_and_only_new_files_are_computed(images: ImageSet, tmp_path: Path) -> None:
    extractor = make_extractor("pixels", SOURCES)
    first = extract(extractor, images, tmp_path / "features", verbose=False)

    def refuse(pixels: np.ndarray) -> np.ndarray:
        raise AssertionError(f"computed {len(pixels)} again")

    again = extract(replace(extractor, compute=refuse), images.rows([3, 1]), tmp_path / "features", verbose=False)
    np.testing.assert_array_equal(again.values, first.values[[3, 1]])
    assert again.units.tolist() == [images.units[3], images.units[1]]
    (table,) = (tmp_path / "features").glob("*.npy")
    assert len(np.load(table, allow_pickle=False)) == 12
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (16, 16), np.uint8)).save(images.samples[0].path)
    changed = ImageSet("real", images.samples, images.units, images.counted, images.labels)
    with pytest.raises(AssertionError, match="computed 1 again"):
        extract(replace(extractor, compute=refuse), changed, tmp_path / "features", verbose=False)
    with pytest.raises(AssertionError, match="computed 12 again"):
        extract(replace(extractor, compute=refuse, identity="other"), images, tmp_path / "features", verbose=False)


def test_an_image_that_cannot_be_read_is_named(images: ImageSet, tmp_path: Path) -> None:
    images.samples[5].path.write_bytes(b"\x89PNG no more")
    with pytest.raises(UserError, match=r"5\.png"):
        extract(make_extractor("pixels", SOURCES), images, tmp_path / "features", verbose=False)


def test_a_cache_that_was_cut_short_is_named(images: ImageSet, tmp_path: Path) -> None:
    extractor = make_extractor("pixels", SOURCES)
    (tmp_path / f"{extractor.identity}.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="is not a file of features"):
        extract(extractor, images, tmp_path, verbose=False)


def test_classifier_features_are_penultimate(images: ImageSet, tmp_path: Path) -> None:
    source = extract(make_extractor("pixels", SOURCES), images, tmp_path / "features", verbose=False)
    assert source.values.shape == (12, 1024)
    pixels = np.random.default_rng(0).uniform(-1, 1, (12, 1, 16, 16)).astype(np.float32)
    options = ClassifierOptions(steps=1, batch=8, verbose=False)
    classifier = train_classifier(pixels, [str(label) for label in images.labels], images.units, (), options)
    extractor = make_extractor("classifier", Sources(SPEC, classifier))
    np.testing.assert_array_equal(extractor.compute(pixels), classifier.features(pixels))
    assert "2 classes" in extractor.statement
    with pytest.raises(UserError, match="needs a label"):
        make_extractor("classifier", SOURCES)


def test_a_transformers_model_gets_its_own_preprocessing(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "dino", size={"shortest_edge": 32}, crop_size=28, do_center_crop=True)
    extractor = make_extractor(f"hf:{folder}", SOURCES)
    assert extractor.spec.size == (32, 32) and extractor.spec.resize == "crop"
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 1, 32, 32)).astype(np.float32)
    by_hand = np.repeat((pixels[:, :, 2:30, 2:30] + 1) / 2, 3, axis=1)
    mean, std = (np.array(PROCESSOR[name], np.float32).reshape(1, 3, 1, 1) for name in ("image_mean", "image_std"))
    model = Dinov2Model.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = model(torch.from_numpy((by_hand - mean) / std)).pooler_output
    np.testing.assert_allclose(extractor.compute(pixels), expected, atol=1e-5)
    assert "28 x 28" in extractor.statement and "0.5, 0.4, 0.3" in extractor.statement


def test_aspect_is_kept(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "dino", size={"height": 28, "width": 28})
    wide = tmp_path / "wide.png"
    Image.fromarray(np.full((20, 40), 200, np.uint8) - np.eye(20, 40, dtype=np.uint8)).save(wide)
    (tmp_path / "m.csv").write_text("path,modality,patient_id\nwide.png,dark,p\n")
    extractor = make_extractor(f"hf:{folder}", SOURCES)
    members = real_set(read(tmp_path / "m.csv"), "none", "real")
    (image,) = ImageSource(members.samples, extractor.spec, None, {}).images([0])
    assert (image[0, :7] == -1).all() and (image[0, 21:] == -1).all() and (image[0, 7:21] > 0).all()


@pytest.mark.parametrize(("kind", "size", "statement"), [("vit", 28, "mean over"), ("swin", 32, "pooled")])
def test_no_pooling_layer_from_random_weights(kind: str, size: int, statement: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / kind, kind, size=size)
    one, two = (make_extractor(f"hf:{folder}", SOURCES) for _ in range(2))
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 1, size, size)).astype(np.float32)
    np.testing.assert_array_equal(one.compute(pixels), two.compute(pixels))
    assert one.statement.startswith(statement) and one.identity == two.identity


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "dino", size=28)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"no preprocessor_config\.json"):
        make_extractor(f"hf:{folder}", SOURCES)
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="cannot be loaded"):
        make_extractor(f"hf:{folder}", SOURCES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot be loaded"):
        make_extractor(f"hf:{tmp_path / 'empty'}", SOURCES)
    text = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=20)
    BertModel(text).save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match="does not take images"):
        make_extractor(f"hf:{tmp_path / 'bert'}", SOURCES)


VOLUMES = replace(SPEC, size=(28, 28, 28), orientation="RAS")


def test_a_model_of_two_axes_measures_slices_of_volumes_by_plane(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "dino", size={"height": 28, "width": 28})
    names = by_plane(f"hf:{folder}", VOLUMES)
    assert names == tuple(f"hf:{folder}, {plane}" for plane in ("axial", "coronal", "sagittal"))
    assert by_plane(names[1], VOLUMES) == names[1:2] and by_plane(f"hf:{folder}", SPEC) == (f"hf:{folder}",)
    assert by_plane("texture", VOLUMES) == ("texture",)
    volumes = np.random.default_rng(0).uniform(-1, 1, (2, 1, 28, 28, 28)).astype(np.float32)
    flat = make_extractor(f"hf:{folder}", SOURCES)
    extractors = [make_extractor(name, Sources(VOLUMES, None)) for name in names]
    for extractor, axis in zip(extractors, (2, 1, 0), strict=True):
        assert extractor.spec == VOLUMES and "mean of three slices" in extractor.statement
        expected = np.zeros((2, 16), np.float32)
        for row, own in enumerate(levels(volumes, axis)):
            # Noise is evenly bright: about the quarters.
            np.testing.assert_allclose(own, [7, 14, 21], atol=1)
            cuts = [np.rot90(volumes[row].take(level, axis=axis + 1), 1, (1, 2)) for level in own]
            # The patient's right, or front, is on the left.
            expected[row] = flat.compute(np.stack(cuts)[..., ::-1].copy()).mean(axis=0)
        np.testing.assert_allclose(extractor.compute(volumes), expected, atol=1e-5)
    assert len({extractor.identity for extractor in extractors}) == 3
    with pytest.raises(UserError, match="of volumes name a plane: axial, coronal, sagittal"):
        make_extractor("hf:any", Sources(VOLUMES, None))
    unknown = by_plane("hf:any", replace(VOLUMES, orientation=None))
    assert unknown == ("hf:any, across axis 1", "hf:any, across axis 2", "hf:any, across axis 3")


def test_slices_lie_within_volumes_of_few_thick_slices(tmp_path: Path) -> None:
    """In a cubic frame such a volume has a wide border, as of 40 x 40 x 10 voxels of 1 x 1 x 4 mm."""
    voxels = np.random.default_rng(0).integers(60, 255, (40, 40, 10)).astype(np.uint8)
    nibabel.Nifti1Image(voxels, np.diag([1, 1, 4, 1])).to_filename(tmp_path / "thick.nii.gz")
    (tmp_path / "m.csv").write_text("path,modality,patient_id\nthick.nii.gz,dark,p\n")
    members = real_set(read(tmp_path / "m.csv"), "none", "real")
    spec = measure_spec(members.samples, (20, 20, 20), "pad", verbose=False, unit=GREY)
    volumes = ImageSource(members.samples, spec, GREY, {}).images([0])
    inside = np.flatnonzero(volumes[0, 0].max(axis=(0, 1)) > -1)
    assert len(inside) == 5 and set(levels(volumes, 2)[0]) <= set(inside[1:-1])
    seen = slices(volumes, 0, replace(SPEC, size=(30, 40)))
    assert seen.shape == (3, 1, 30, 40) and np.abs(levels(volumes, 0)[0] - [5, 10, 15]).max() <= 1
    # Aspect kept: 5 of 20 rows, and a border at both sides.
    lit = seen[1, 0] > -0.9
    assert lit.any(axis=1).sum() == pytest.approx(30 * 5 / 20, abs=2) and lit.any(axis=0).sum() == pytest.approx(
        30, abs=2
    )
    black = np.full((1, 1, 8, 8, 8), -1.0)
    assert levels(black, 1).tolist() == [[1, 3, 5]]


def test_slices_across_an_axis_show_what_is_wrong_between_slices() -> None:
    volumes = np.random.default_rng(0).uniform(-1, 1, (4, 1, 1, 1, 16)) * np.ones((4, 1, 16, 16, 16))
    changed = np.repeat(volumes[..., ::2], 2, axis=4)

    def steps(images: np.ndarray) -> np.ndarray:
        return np.abs(np.diff(images, axis=2)).mean(axis=(1, 2, 3))[:, None]

    found = [by_slices(steps, axis, SPEC)(np.float32(changed)) for axis in (2, 1, 0)]
    before = [by_slices(steps, axis, SPEC)(np.float32(volumes)) for axis in (2, 1, 0)]
    assert np.allclose(found[0], before[0]) and (found[1] < before[1]).all() and (found[2] < before[2]).all()


@pytest.mark.parametrize(("name", "message"), [("clasifier", "did you mean 'classifier'"), ("hf", "give classifier")])
def test_names(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_extractor(name)
