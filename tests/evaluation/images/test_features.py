"""Extractors: their preprocessing, their errors, and the cache."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model, SwinConfig, SwinModel, ViTConfig, ViTModel

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.data.dataset import ImageSource
from medloom.downstream.classifier import ClassifierOptions, train_classifier
from medloom.evaluation.images.features import Sources, check_extractor, extract, make_extractor
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


def test_volumes_are_refused_by_models_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two axes"):
        make_extractor("hf:any", Sources(replace(SPEC, size=(16, 16, 16), orientation="RAS"), None))


@pytest.mark.parametrize(("name", "message"), [("clasifier", "did you mean 'classifier'"), ("hf", "give classifier")])
def test_names(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_extractor(name)
