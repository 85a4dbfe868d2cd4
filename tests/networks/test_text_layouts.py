"""Published text encoders, converted: their pooled output is that of the library that they were published for.

The expected values are the outputs of those libraries for the same weights and token ids: transformers 5.23 for
Bio_ClinicalBERT, hi-ml-multimodal 0.2.2 for cxr-bert, medclip 0.0.3 for MedCLIP, and open_clip 3.3.0.
"""

import builtins
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import text_layouts as layouts
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, T5Config, T5EncoderModel

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights
from medloom.evaluation.images.vision_models import load_vision_model
from medloom.generators.row_caches import weights_hash
from medloom.networks.autoencoder import load_autoencoder
from medloom.networks.perceptual import load_vision_features
from medloom.networks.text import TextEncoder, embed_texts, load_text_encoder, load_text_parts, train_tokenizer
from medloom.networks.weights_import.layouts import Layout
from medloom.networks.weights_import.tensors import read_tensors
from medloom.networks.weights_import.text_encoders import convert_text_encoder, write_text_encoder

# Name -> how it is written, its layout, what --base-config names, and the first values for both texts.
Writer = Callable[[Path], Path]
CASES: dict[str, tuple[Writer, Layout, Writer | None, list[list[float]]]] = {
    "clinical-bert": (
        layouts.clinical_bert,
        Layout.TRANSFORMERS,
        None,
        [
            [0.7868418, 1.976776, -0.6064163, -0.2887209, 0.4830723, 0.9273472, 0.2925866, 1.4485939],
            [1.0539492, 1.6231545, -0.7904506, -0.3279369, 0.1713604, 0.8347663, 0.2406976, 1.5629034],
        ],
    ),
    "cxr-bert": (
        layouts.cxr_bert,
        Layout.CXR_BERT,
        None,
        [
            [-0.1329178, -0.3003194, -0.8262603, 1.3952363, -0.306086, -0.1055608, 0.3076191, 0.4102903],
            [0.0464289, 0.3954621, -0.8832752, 0.6653201, -0.3009638, 0.190839, 0.5024099, 0.2141213],
        ],
    ),
    "medclip": (
        layouts.medclip,
        Layout.MEDCLIP,
        layouts.base_config,
        [
            [1.0328012, 0.5063667, -0.3135276, 0.9602017, -0.1983708, -2.5649927, -0.3747464, -0.4757233],
            [0.2905976, 0.4861535, -0.4168728, 1.3041447, -0.8557915, -2.8508124, 0.111553, 0.4616447],
        ],
    ),
    "biomedclip": (
        layouts.biomed_clip,
        Layout.OPEN_CLIP,
        None,
        [
            [-1.8667085, -0.1936052, -5.9885139, -1.8065751, -1.4048405, 1.2288092, -0.9685501, 1.5431867],
            [-1.6171076, 0.9321368, -5.7726192, -1.919838, -1.3083019, 1.3304963, -1.4232835, 1.7211226],
        ],
    ),
    "open_clip linear mean": (
        lambda folder: layouts.biomed_clip(folder, "linear", "mean_pooler", safe=True),
        Layout.OPEN_CLIP,
        None,
        [
            [-1.0433109, -5.0484633, 2.9544849, -0.7257015, -4.1020193, 1.2399707, -1.5730921, 5.3626022],
            [-0.0767636, -2.7376339, 3.5167012, -2.842663, -4.3652015, 0.2357887, -2.764194, 3.4870608],
        ],
    ),
    "open_clip linear pooler": (
        lambda folder: layouts.biomed_clip(folder, "linear", "cls_pooler"),
        Layout.OPEN_CLIP,
        None,
        [
            [-0.2531658, 1.6445808, 0.7831707, -2.1585269, -1.7082827, -0.2974158, 0.3221677, 3.7785063],
            [-2.2009659, 2.2774644, 0.788502, -0.6367518, -0.7430758, -1.8021903, -0.8481768, 1.552927],
        ],
    ),
    "open_clip own": (
        layouts.clip,
        Layout.OPEN_CLIP,
        None,
        [
            [-0.0141017, 1.7820835, -0.5873594, -1.0747302, 2.488987, -0.1725795, 0.3601598, -0.6999398],
            [-1.0578196, 1.4698505, -0.1194911, -0.134061, 2.2004726, -1.4626304, -1.2338449, 0.0171378],
        ],
    ),
    "open_clip own, text., quick GELU": (
        lambda folder: layouts.clip(folder, "text.", quick_gelu=True),
        Layout.OPEN_CLIP,
        None,
        [
            [0.0021316, 1.7602932, -0.5781325, -1.0686338, 2.4771447, -0.2073297, 0.36106, -0.7016068],
            [-1.0549645, 1.4613431, -0.130732, -0.1418327, 2.1990561, -1.4662441, -1.2343603, 0.0150481],
        ],
    ),
    "open_clip RoBERTa": (
        layouts.roberta_clip,
        Layout.OPEN_CLIP,
        layouts.roberta_config,
        [
            [-1.6791701, -0.2524471, -5.0449324, -2.468189, -1.2242217, 1.3349705, -0.4621632, 1.6373445],
            [-1.1033876, 1.2874166, -5.0821905, -3.2278986, -1.4327615, 2.7609987, -2.0700836, 2.0812683],
        ],
    ),
}


def convert(tmp_path: Path, name: str) -> Path:
    write, layout, write_base, _ = CASES[name]
    base = write_base(tmp_path / "base") if write_base else None
    converted = convert_text_encoder(write(tmp_path / "published"), base)
    assert converted.layout is layout
    out = tmp_path / "converted"
    out.mkdir()
    write_text_encoder(converted, out)
    return out


def pooled(encoder: TextEncoder) -> torch.Tensor:
    return torch.stack([vector for _, vector in embed_texts(encoder.eval(), layouts.TEXTS, torch.device("cpu"))])


@pytest.mark.parametrize("name", CASES)
def test_the_pooled_output_is_that_of_the_published_model(tmp_path: Path, name: str) -> None:
    encoder = load_text_encoder(str(convert(tmp_path, name)), 12)
    found, expected = pooled(encoder), torch.tensor(CASES[name][3])
    assert found.shape == (2, encoder.pooled_width)
    assert float((found[:, :8] - expected).abs().max()) < 1e-5
    # In a batch padding counts as little as alone.
    ids, mask = encoder.tokenize(layouts.TEXTS)
    with torch.no_grad():
        tokens, together = encoder(ids, mask)
    assert tokens.shape[-1] == encoder.width and float((together - found).abs().max()) < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_a_folder_is_a_function_of_the_published_one_and_holds_no_code(tmp_path: Path, name: str) -> None:
    folders = []
    for number in "ab":
        (tmp_path / number).mkdir()
        folders.append(convert(tmp_path / number, name))
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one == two
    assert {path.suffix for path in folders[0].iterdir()} <= {".json", ".safetensors", ".txt"}
    assert not any("auto_map" in path.read_text() for path in folders[0].glob("*.json"))


@pytest.mark.parametrize("name", ["medclip", "cxr-bert", "open_clip own"])
def test_a_saved_encoder_keeps_its_pooling(tmp_path: Path, name: str) -> None:
    encoder = load_text_encoder(str(convert(tmp_path, name)), 12)
    encoder.save(tmp_path / "tokenizer", tmp_path / "text")
    again = load_text_parts(str(tmp_path / "text"), str(tmp_path / "tokenizer"), 12, "trim")
    assert torch.equal(pooled(encoder), pooled(again)) and weights_hash(encoder) == weights_hash(again)
    assert encoder.pooled_width == again.pooled_width == layouts.PROJECTED


@pytest.mark.parametrize(("name", "longest"), [("biomedclip", 40), ("medclip", 48), ("open_clip own", 16)])
def test_texts_may_be_as_long_as_in_the_published_model(tmp_path: Path, name: str, longest: int) -> None:
    folder = str(convert(tmp_path, name))
    assert load_text_encoder(folder, longest).max_tokens == longest
    with pytest.raises(UserError, match=f"takes at most {longest} tokens, not {longest + 1}"):
        load_text_encoder(folder, longest + 1)


def test_pickled_weights_of_clip_and_t5_are_those_of_transformers(tmp_path: Path) -> None:
    """As of flaviagiammarino/pubmed-clip-vit-base-patch32, whose text model is a part of CLIP."""
    tokenizer = train_tokenizer(layouts.CORPUS, 600, 16)
    tokens = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 16}
    shape = {"hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**shape, "image_size": 8, "patch_size": 4}
    with initial_weights(5):
        whole = CLIPModel(CLIPConfig(text_config={**tokens, **shape}, vision_config=vision, projection_dim=8)).eval()
        t5 = T5EncoderModel(T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    for name, model in (("clip", whole), ("t5", t5)):
        folder, out = tmp_path / name, tmp_path / f"{name}-out"
        tokenizer.save_pretrained(folder)
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        out.mkdir()
        write_text_encoder(convert_text_encoder(folder), out)
        encoder = load_text_encoder(str(out), 12).eval()
        ids, mask = encoder.tokenize(layouts.TEXTS)
        with torch.no_grad():
            found = encoder(ids, mask)
            if name == "clip":
                expected = model.get_text_features(input_ids=ids, attention_mask=mask.long())
                torch.testing.assert_close(found[1], getattr(expected, "pooler_output", expected))
            else:
                expected = model.eval()(input_ids=ids, attention_mask=mask.long()).last_hidden_state
                torch.testing.assert_close(found[0], expected)


def test_a_folder_with_both_layouts_of_clip_is_read_as_one_of_open_clip(tmp_path: Path) -> None:
    folder, out = layouts.clip(tmp_path / "clip"), tmp_path / "out"
    save_file({"text_model.embeddings.token_embedding.weight": torch.ones(2, 2)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    out.mkdir()
    write_text_encoder(convert_text_encoder(folder), out)
    expected = torch.tensor(CASES["open_clip own"][3])
    assert float((pooled(load_text_encoder(str(out), 12)) - expected).abs().max()) < 1e-5


def test_what_clip_cannot_represent_is_refused(tmp_path: Path) -> None:
    folder = layouts.clip(tmp_path / "clip", no_causal_mask=True)
    with pytest.raises(UserError, match="no_causal_mask True in text_cfg"):
        convert_text_encoder(folder)
    with pytest.raises(UserError, match=r"the text tower is a roberta-base.*--base-config"):
        convert_text_encoder(layouts.roberta_clip(tmp_path / "roberta"))


def test_half_precision_becomes_full(tmp_path: Path) -> None:
    folder, out = layouts.cxr_bert(tmp_path / "bert"), tmp_path / "out"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": "float16"}))
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save({name: tensor.half() for name, tensor in weights.items()}, folder / "pytorch_model.bin")
    out.mkdir()
    write_text_encoder(convert_text_encoder(folder), out)
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.float32}
    expected = torch.tensor(CASES["cxr-bert"][3])
    assert float((pooled(load_text_encoder(str(out), 12)) - expected).abs().max()) < 5e-3


def test_medclip_needs_the_tokenizer_that_it_is_published_without(tmp_path: Path) -> None:
    folder = layouts.medclip(tmp_path / "medclip")
    with pytest.raises(UserError, match="no tokenizer.*Bio_ClinicalBERT with --base-config"):
        convert_text_encoder(folder)


class Runs:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.trace), "w")


def poisoned(folder: Path, kind: str = "poison") -> Path:
    """A folder whose settings name code for everything, and whose tokenizer does too; the traces end in .was_run."""
    layouts.clinical_bert(folder)
    names = {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoTokenizer": ["own.Tokenizer", None]}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": kind, "auto_map": names}))
    tokenizer = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.Tokenizer", "own.Tokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    layouts.poison(folder, "own.py")
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(params=["yes", "closed"])
def answers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a question would be answered with; the list names those that were asked."""
    asked: list[str] = []

    def answer(prompt: str = "") -> str:
        asked.append(prompt)
        if request.param == "closed":
            raise EOFError
        return "y"

    monkeypatch.setattr(builtins, "input", answer)
    return asked


@pytest.mark.parametrize("safe", [False, True])
def test_the_code_of_a_folder_is_never_run(
    tmp_path: Path, answers: list[str], no_network: None, capfd: pytest.CaptureFixture[str], safe: bool
) -> None:
    folder = poisoned(tmp_path / "poisoned")
    if safe:
        save_file(torch.load(folder / "pytorch_model.bin", weights_only=True), folder / "model.safetensors")
    for action in (load_text_encoder, lambda name, _: convert_text_encoder(Path(name))):
        with pytest.raises(UserError, match=r"of the type 'poison' and brings its own code \(own.py\), which is never"):
            action(str(folder), 12)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [0.5]}))
    for other in (load_vision_features, load_vision_model):
        with pytest.raises(UserError, match="cannot be"):
            other(str(folder))
    assert not answers and not list(tmp_path.rglob("*.was_run")) and "trust" not in capfd.readouterr().out


def test_a_known_type_is_loaded_without_the_code_that_comes_along(
    tmp_path: Path, answers: list[str], no_network: None
) -> None:
    folder, out = poisoned(tmp_path / "poisoned", "bert"), tmp_path / "out"
    out.mkdir()
    write_text_encoder(convert_text_encoder(folder), out)
    expected = torch.tensor(CASES["clinical-bert"][3])
    assert float((pooled(load_text_encoder(str(out), 12))[:, :8] - expected).abs().max()) < 1e-5
    # With safetensors of transformers only the tokenizer is still one of code.
    shutil.copy(out / "model.safetensors", folder)
    with pytest.raises(UserError, match="tokenizer of .* own code, which is never run; convert it"):
        load_text_encoder(str(folder), 12)
    assert not answers and not list(tmp_path.rglob("*.was_run"))


def test_pickled_files_are_read_without_running_them(tmp_path: Path, no_network: None) -> None:
    folder = layouts.clinical_bert(tmp_path / "bert")
    torch.save({"weight": Runs(tmp_path / "trace")}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"holds more than tensors \(\w+\.open\)"):
        convert_text_encoder(folder)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_text_encoder(str(folder), 12)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_pickled_file_is_said_to_be_damaged(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.ones(999)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    assert torch.equal(read_tensors(path)["weight"], torch.ones(999))
    for content in (whole[: len(whole) // 2], b"<html>not found</html>", b"", whole[:40]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is no complete file of torch"):
            read_tensors(path)


CONVERT = r".*; convert it: medloom data import weights --text-encoder \S+ --out DIR\.$"


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            layouts.clinical_bert,
            r"only pickled weights \(pytorch_model.bin\), and only safetensors are loaded" + CONVERT,
        ),
        (layouts.biomed_clip, r"the layout of open_clip \(open_clip_pytorch_model.bin\)" + CONVERT),
        (layouts.clip, r"the layout of open_clip \(open_clip_pytorch_model.bin\)" + CONVERT),
        (layouts.medclip, r"the layout of MedCLIP \(pytorch_model.bin\)" + CONVERT),
        (layouts.cxr_bert, r"the layout of cxr-bert \(pytorch_model.bin\)" + CONVERT),
    ],
)
def test_a_refusal_names_what_lies_there_and_how_it_is_converted(
    tmp_path: Path, no_network: None, write: Callable[[Path], Path], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        load_text_encoder(str(write(tmp_path / "folder")), 12)


def loadable(folder: Path) -> Path:
    folder.mkdir()
    write_text_encoder(convert_text_encoder(layouts.clinical_bert(folder.parent / "published")), folder)
    return folder


def _pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")


def _cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)


def _lost(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_pointer, "model.safetensors is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"),
        (_cut, r"model.safetensors is no complete safetensors file \(cut short\?\)"),
        (_no_tokenizer, "has no tokenizer"),
        (_lost, "weights are missing: encoder.layer.1.output.dense.weight"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json holds no settings by name"),
        (lambda folder: (folder / "config.json").write_text("{}"), r"config.json does not say .*\(model_type\)"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": "x"}'),
            "Field 'hidden_size' expected int, got str",
        ),
        (_not_finite, "the weights encoder.layer.1.output.dense.weight hold values that are not finite"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
    ],
)
def test_a_refusal_names_the_damage(
    tmp_path: Path, no_network: None, damage: Callable[[Path], object], said: str
) -> None:
    folder = loadable(tmp_path / "folder")
    damage(folder)
    with pytest.raises(UserError, match=said) as error:
        load_text_encoder(str(folder), 12)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"model_type": "bert", "hidden_size": "x"}', "Field 'hidden_size' expected int, got str"),
        ("[]", "config.json holds no settings by name"),
    ],
)
def test_an_import_names_the_settings_that_it_cannot_read(tmp_path: Path, config: str, said: str) -> None:
    folder = loadable(tmp_path / "folder")
    (folder / "config.json").write_text(config)
    with pytest.raises(UserError, match=said) as error:
        convert_text_encoder(folder)
    assert "\n" not in str(error.value)


def test_the_shape_of_a_bert_without_settings_is_that_of_its_weights(tmp_path: Path) -> None:
    folder = loadable(tmp_path / "folder")
    expected = load_text_encoder(str(folder), 12)
    (folder / "config.json").write_text("{}")
    (tmp_path / "out").mkdir()
    write_text_encoder(convert_text_encoder(folder), tmp_path / "out")
    found = load_text_encoder(str(tmp_path / "out"), 12)
    one, other = (embed_texts(encoder, layouts.TEXTS[:1], torch.device("cpu"))[0] for encoder in (found, expected))
    assert torch.allclose(one[0], other[0], atol=1e-6)


def test_weights_of_an_unknown_type_are_refused_by_name(tmp_path: Path) -> None:
    folder = loadable(tmp_path / "folder")
    (folder / "config.json").write_text("{}")
    save_file({"a": torch.ones(2)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"config.json does not say of which type the network is \(model_type\)"):
        convert_text_encoder(folder)


@pytest.mark.parametrize("name", ["org/name", "missing", "/no/such/folder", "hf:/no/such", "hf:a/b/c"])
def test_a_path_that_does_not_exist_is_no_request(no_network: None, name: str) -> None:
    for load in (lambda each: load_text_encoder(each, 12), load_vision_features):
        with pytest.raises(UserError, match=r"does not exist; name a folder|is no hub id"):
            load(name)
    with pytest.raises(UserError, match=r"is no folder"):
        load_autoencoder(Path(name))


@pytest.mark.parametrize("name", ["/no/such/folder", "{0}/missing", "missing", "a/b/c", "./org/name"])
def test_a_feature_extractor_of_a_mistyped_path_is_no_request(tmp_path: Path, no_network: None, name: str) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        load_vision_model(name.replace("{0}", str(tmp_path)))


def test_divided_weights_are_read_whole(tmp_path: Path) -> None:
    parts = {"one.safetensors": {"a": torch.ones(2)}, "two.safetensors": {"b": torch.zeros(3)}}
    for file, tensors in parts.items():
        save_file(tensors, tmp_path / file)
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert set(read_tensors(tmp_path / "model.safetensors.index.json")) == {"a", "b"}
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(UserError, match="two.safetensors is missing"):
        read_tensors(tmp_path / "model.safetensors.index.json")
