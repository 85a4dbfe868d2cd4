"""Images and their texts by a joint encoder: oracles, nulls, encoders of both kinds, and folders that are refused."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPTextModel, CLIPVisionModel

from medloom.core.errors import GateError, UserError
from medloom.evaluation.images import joint_encoders, texts
from medloom.evaluation.images.joint_encoders import JointEncoder, load_joint_encoder
from medloom.evaluation.images.sections import SIGNED
from medloom.evaluation.images.texts import Pairs, pair_metrics
from medloom.evaluation.images.vision_models import Preprocessing
from medloom.evaluation.report.metrics import Metric
from medloom.networks.text import train_tokenizer
from medloom.recipes.commands import run_command
from medloom.recipes.evaluate_images import Config, run

SIZE, BITS, TEXTS = 16, 4, 16
TOP1, TOP5 = (texts.BY_IMAGE.format(top) for top in texts.TOPS)
BACK1 = texts.BY_TEXT.format(1)
# With these features all real images are the reference.
QUICK: dict[str, Any] = {
    "image_size": (SIZE,),
    "device": "cpu",
    "label": "none",
    "only": ("texts",),
    "features": ("pixels",),
}
PROCESSOR = {"size": SIZE, "do_center_crop": False, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
OPTIONS: dict[str, Any] = {
    "image_size": [SIZE],
    "validation": 0.3,
    "encoder.width": 16,
    "encoder.layers": 1,
    "encoder.vocabulary": 300,
    "encoder.max_tokens": 24,
    "encoder.joint": 16,
    "encoder.image_widths": [8, 16],
    "loop.precision": "fp32",
    "loop.batch": 16,
    "loop.steps": 2,
    "loop.warmup": 0,
    "loop.validate_every": 2,
    "loop.checkpoint_every": 2,
    "device": "cpu",
}


def coded(folder: Path, count: int, *, shift: int = 0) -> Path:
    """Images with the bits of a number as bright columns, and texts that name it; `shift` names another one."""
    folder.mkdir()
    lines = ["path,text,modality,patient_id"]
    rng = np.random.default_rng(count)
    for row in range(count):
        number = row % TEXTS
        image = rng.normal(40, 5, (SIZE, SIZE))
        for bit in range(BITS):
            image[:, bit * 4 : bit * 4 + 3] += 150 * (number >> bit & 1)
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / f"{row}.png")
        lines.append(f"{row}.png,Code {(number + shift) % TEXTS}.,X-ray,{folder.name}-{row}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("codes")
    return {
        "real": coded(root / "real", 48),
        "good": coded(root / "good", 32),
        "shifted": coded(root / "shifted", 33, shift=1),
        "train": coded(root / "train", 34),
    }


def see(images: np.ndarray) -> np.ndarray:
    """One of as many axes as there are codes, read from the columns."""
    levels = (np.asarray(images).mean(axis=(1, 2)) + 1) * 127.5
    bits = [levels[:, bit * 4 : bit * 4 + 3].mean(axis=1) > 110 for bit in range(BITS)]
    return np.eye(TEXTS, dtype=np.float32)[sum(bit.astype(int) << place for place, bit in enumerate(bits))]


def read(named: Sequence[str]) -> np.ndarray:
    return np.eye(TEXTS, dtype=np.float32)[[int(text.strip(".").split()[1]) for text in named]]


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> JointEncoder:
    """An encoder that makes no mistake, behind --pair-encoder."""
    taken = Preprocessing((SIZE, SIZE), None, (0.0,) * 3, (1.0,) * 3, 1.0)
    made = JointEncoder(Path("oracle"), "an oracle", "oracle", None, taken, see, read, lambda t: [9] * len(t), 8)
    monkeypatch.setattr(joint_encoders, "load_joint_encoder", lambda path, device: made)
    return made


def evaluate(sets: dict[str, Path], name: str, out: Path, **options: Any) -> dict[str, dict[str, Any]]:
    """Metrics of all images by name."""
    given: dict[str, Any] = {**QUICK, "pair_encoder": Path("oracle"), **options}
    run(Config(real=sets["real"], synthetic=(sets[name],), out=out, **given))
    metrics = json.loads((out / "scores.json").read_text())["metrics"]
    return {metric["name"]: metric for metric in metrics if metric["subset"] == "all"}


def test_an_oracle_finds_every_text(oracle: JointEncoder, sets: dict[str, Path], tmp_path: Path) -> None:
    found = evaluate(sets, "good", tmp_path / "out")
    for name in (TOP1, TOP5, BACK1, texts.COSINE):
        metric = found[name]
        assert metric["value"] == metric["reference"]["value"] == 1 and metric["reading"] == "within the reference"
        assert metric["control"] < 0.5
    assert "16 candidates: different texts with one image each; chance is 0.062" in found[TOP1]["note"]
    assert (found[TOP1]["n"], found[TOP1]["counted"], found[TOP1]["reference"]["n"]) == (16, "texts", 16)
    assert found[TOP1 + texts.SHUFFLED]["value"] == pytest.approx(1 / 16, abs=0.06)
    assert found[TOP5 + texts.SHUFFLED]["value"] == pytest.approx(5 / 16, abs=0.12)
    assert found[texts.COSINE + texts.SHUFFLED]["high"] < 0.3
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["pair_encoder"] == {"statement": "an oracle", "identity": "oracle"}
    assert any("16 of 16 texts are longer than the 8 tokens" in note for note in scores["notes"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert texts.SECTION.question in page and "compared by an oracle" in page and page.count("<figure>") >= 2


def test_other_texts_give_the_null(oracle: JointEncoder, sets: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text("- {metric: 'text found by image, top 1', lower_at_least: 0.5}\n")
    with pytest.raises(GateError, match="text found by image, top 1"):
        evaluate(sets, "shifted", tmp_path / "out", gate=tmp_path / "gate.yaml")
    metrics = json.loads((tmp_path / "out" / "scores.json").read_text())["metrics"]
    found = {metric["name"]: metric for metric in metrics}
    # All wrong candidates are equally far, and a tie counts by its share.
    assert found[TOP1]["value"] < 0.05 and found[texts.COSINE]["value"] == 0
    assert found[TOP1]["reading"].endswith("worse") and found[BACK1]["reading"].endswith("worse")
    ratio = "- {metric: cosine of image and text, times_reference_at_least: 0.5}\n"
    (tmp_path / "ratio.yaml").write_text(ratio)
    with pytest.raises(UserError, match="a ratio to it says nothing"):
        evaluate(sets, "good", tmp_path / "ratio", gate=tmp_path / "ratio.yaml")
    assert texts.COSINE in SIGNED


def pairs(images: np.ndarray, words: np.ndarray, owner: Sequence[int], groups: Sequence[str] = ()) -> Pairs:
    images, words = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, words))
    named = np.asarray(groups or ["m"] * len(images))
    return Pairs(images, words, np.asarray(owner), np.arange(len(images)), "patients", named)


def by_name(metrics: list[Metric]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


def test_both_sides_have_as_many_candidates() -> None:
    """The same noise is found as often, though one side has four times as many texts."""
    rng = np.random.default_rng(0)
    made = []
    for count in (240, 60, 240):
        words = rng.normal(size=(count, 8))
        made.append(pairs(words + rng.normal(size=words.shape), words, range(count)))
    found = by_name(pair_metrics(*made, seed=0))[TOP1]
    assert (
        "60 candidates" in found.note
        and found.reading == "cannot tell: a set made without a model is within the reference too"
    )
    assert abs(found.value - found.reference.value) < 0.1 and 0.1 < found.value < 0.6
    assert (found.n, found.reference.n) == (240, 60)


def test_identical_texts_count_as_right_wherever_they_stand() -> None:
    """Three images of each text, all alike: none is taken for a wrong candidate."""
    words, owner = np.eye(12), np.repeat(np.arange(12), 3)
    found = by_name(pair_metrics(*[pairs(words[owner], words, owner)] * 3, seed=0))
    assert found[TOP1].value == found[BACK1].value == 1 and "12 candidates" in found[TOP1].note


def test_shuffles_stay_within_the_modality() -> None:
    """An encoder that sees the modality alone is at the null, which is above chance."""
    rng = np.random.default_rng(0)
    owner, groups = np.arange(40), ["x"] * 10 + ["y"] * 30
    words = np.eye(2)[[0] * 10 + [1] * 30] + rng.normal(0, 0.01, (40, 2))
    own = pairs(np.eye(2)[[0] * 10 + [1] * 30] + rng.normal(0, 0.01, (40, 2)), words, owner, groups)
    found = by_name(pair_metrics(own, own, own, seed=0))
    null = found[texts.COSINE + texts.SHUFFLED]
    assert null.value > 0.99 and found[texts.COSINE].blind == texts.UNRELATED
    assert found[TOP5].blind == texts.UNRELATED and found[TOP5 + texts.SHUFFLED].value > 5 / 40


def clip(folder: Path, kind: type = CLIPModel, **sizes: int) -> Path:
    """A CLIP folder as transformers writes it, with weights from a seed."""
    tokenizer = train_tokenizer([f"Code {number}." for number in range(TEXTS)], 300, 24)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config={**shape, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 24},
        vision_config={**shape, "image_size": SIZE, "patch_size": 8},
        projection_dim=8,
    )
    part = {CLIPTextModel: config.text_config, CLIPVisionModel: config.vision_config}.get(kind, config)
    kind(part).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def test_a_clip_model_gives_its_own_cosines(sets: dict[str, Path], tmp_path: Path) -> None:
    folder = clip(tmp_path / "clip")
    joint = load_joint_encoder(folder)
    named = ["Code 1.", "Code 12.", "Code 3 and further words."]
    images = np.random.default_rng(0).uniform(-1, 1, (3, 1, SIZE, SIZE)).astype(np.float32)
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        given = tokenizer(named, padding=True, return_tensors="pt")
        # Mean and standard deviation of a half bring grey levels back to -1 to 1.
        output = model(pixel_values=torch.from_numpy(images).expand(-1, 3, -1, -1), **given)
    np.testing.assert_allclose(joint.see(images), output.image_embeds, atol=1e-5)
    np.testing.assert_allclose(joint.read(named), output.text_embeds, atol=1e-5)
    found = evaluate(sets, "good", tmp_path / "out", pair_encoder=folder)
    assert set(found) == set(texts.SECTION.metrics)
    # Weights at random match nothing, and the report says that they are of no use.
    assert found[TOP1]["reading"] == f"cannot tell: {texts.UNRELATED}"
    scores = (tmp_path / "out" / "scores.json").read_text()
    assert "does not say which patients it was trained on" in scores and "the CLIP model in clip;" in scores
    nested = clip(tmp_path / "nested")
    (nested / "preprocessor_config.json").unlink()
    (nested / "processor_config.json").write_text(json.dumps({"image_processor": PROCESSOR}))
    assert load_joint_encoder(nested).preprocessing == joint.preprocessing


@pytest.fixture(scope="module")
def encoder(sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_command(
        "train text-encoder", data=sets["train"], out=tmp_path_factory.mktemp("runs") / "words", **OPTIONS
    )


def test_a_run_of_train_text_encoder(sets: dict[str, Path], encoder: Path, tmp_path: Path) -> None:
    found = evaluate(sets, "good", tmp_path / "out", pair_encoder=encoder)
    assert set(found) == set(texts.SECTION.metrics) and -1 <= found[texts.COSINE]["value"] <= 1
    statement = json.loads((tmp_path / "out" / "scores.json").read_text())["pair_encoder"]["statement"]
    assert (
        statement == "the encoder of `medloom train text-encoder` in words, images of 16 pixels"
        or "16 x 16" in statement
    )
    # Its folder `model` is the same encoder, whose patients are known too.
    assert load_joint_encoder(encoder / "model").identity == load_joint_encoder(encoder).identity
    for folder in (encoder, encoder / "model"):
        with pytest.raises(UserError, match="patients were in the training set of"):
            evaluate({**sets, "real": sets["train"]}, "good", tmp_path / "seen", pair_encoder=folder)
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for path in sets["real"].parent.glob("*.png"):
        (renamed / path.name).write_bytes(path.read_bytes())
    (renamed / "manifest.csv").write_text(sets["real"].read_text().replace("X-ray", "CT"))
    with pytest.raises(UserError, match="was not trained on images of CT; known: X-ray"):
        evaluate(
            {"real": renamed / "manifest.csv", "good": _as_ct(sets["good"], tmp_path)},
            "good",
            tmp_path / "ct",
            pair_encoder=encoder,
        )
    assert not (tmp_path / "ct").exists() and not (tmp_path / "seen").exists()


def _as_ct(manifest: Path, folder: Path) -> Path:
    changed = manifest.parent / "ct.csv"
    changed.write_text(manifest.read_text().replace("X-ray", "CT"))
    return changed


def test_folders_that_are_refused(sets: dict[str, Path], encoder: Path, tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        with pytest.raises(UserError) as caught:
            evaluate(sets, "good", tmp_path / "out", pair_encoder=folder)
        assert not (tmp_path / "out").exists() and str(caught.value).startswith("--pair-encoder")
        return str(caught.value)

    assert "is not a folder; give a run folder of `medloom train text-encoder`" in refused(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "neither an index.json nor a config.json" in refused(tmp_path / "empty")
    assert "has no image part" in refused(clip(tmp_path / "half", CLIPTextModel))
    assert "has no text part" in refused(clip(tmp_path / "other", CLIPVisionModel))
    lacking = clip(tmp_path / "lacking")
    weights = load_file(lacking / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("vision")}
    save_file(kept, lacking / "model.safetensors", {"format": "pt"})
    assert "lacks weights of its image part (vision_model" in refused(lacking)
    wordless = clip(tmp_path / "wordless")
    for path in wordless.glob("*"):
        if path.name.startswith(("tokenizer", "vocab", "merges", "special")):
            path.unlink()
    assert "has no tokenizer" in refused(wordless)
    unknown = clip(tmp_path / "unknown")
    (unknown / "preprocessor_config.json").unlink()
    assert "has no preprocessor_config.json" in refused(unknown)
    (lacking / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "is of type bert, not clip" in refused(lacking)
    alone = tmp_path / "alone"
    (alone / "joint").mkdir(parents=True)
    (alone / "joint" / "config.json").write_text("{}")
    assert "without its run folder" in refused(alone)
    cut = tmp_path / "cut"
    (cut / "model").mkdir(parents=True)
    for path in (encoder / "run.json", encoder / "index.json"):
        (cut / path.name).write_bytes(path.read_bytes())
    assert "cut" in refused(cut)
    with pytest.raises(UserError, match="--pair-encoder is for the section texts, which --only leaves out"):
        evaluate(sets, "good", tmp_path / "out", only=("identifiers",))


def test_what_is_lacking(oracle: JointEncoder, sets: dict[str, Path], tmp_path: Path) -> None:
    few = tmp_path / "few"
    coded(few, 9)
    with pytest.raises(UserError, match="texts cannot be measured: synthetic images have 9 different texts and it"):
        evaluate({**sets, "few": few / "manifest.csv"}, "few", tmp_path / "out")
    with pytest.raises(UserError, match="texts needs --pair-encoder, a run folder"):
        evaluate(sets, "good", tmp_path / "out", pair_encoder=None)


def test_a_subset_has_its_own_null() -> None:
    """In one modality texts are matched, in the other all images and texts are alike: only the first can be judged."""
    rng = np.random.default_rng(0)
    words = np.concatenate([rng.normal(size=(30, 6)), np.ones((30, 6)) + rng.normal(0, 0.01, (30, 6))])
    seen = words.copy()
    seen[30:] = words[30:][rng.permutation(30)]
    groups = ["x"] * 30 + ["y"] * 30
    own = pairs(seen, words, range(60), groups)
    parts = {name: np.array(groups) == name for name in ("x", "y")}
    own = replace(own, parts=parts)
    metrics = pair_metrics(own, own, own, seed=0)
    found = {metric.subset: metric for metric in metrics if metric.name == texts.COSINE}
    assert not found["x"].blind and found["y"].blind == texts.UNRELATED and found["y"].value > 0.99
