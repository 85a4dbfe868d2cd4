"""Text encoders: the local one, and transformers' of CLIP, BERT and T5 type from folders."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, T5Config, T5EncoderModel

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights
from medloom.networks.conditioning import ConditionConfig, ConditionEncoder
from medloom.networks.ema import ExponentialMovingAverage
from medloom.networks.text import (
    TextEncoder,
    embed_texts,
    load_text_encoder,
    load_text_parts,
    make_text_model,
    train_tokenizer,
)

CORPUS = ["Small left pleural effusion.", "No effusion; the heart is normal.", "Axial FLAIR of the brain"]


def local(pad: str = "trim", tokens: int = 24) -> TextEncoder:
    with initial_weights(0):
        tokenizer = train_tokenizer(CORPUS, 700, tokens)
        return TextEncoder(tokenizer, make_text_model(tokenizer, 32, 1, tokens), tokens, pad).eval()


def bert_folder(folder: Path) -> Path:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "small", "left", "effusion", "no", "heart", "."]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    with initial_weights(1):
        config = BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=32,
        )
        BertModel(config).save_pretrained(folder, safe_serialization=True)
    return folder


def test_no_text_is_unknown_to_the_local_tokenizer() -> None:
    encoder = local()
    end = encoder.tokenizer.eos_token_id
    for text in ("Épanchement pleural gauche: 3,5 cm", "左肺", "x-ray; 😀"):
        ids, mask = encoder.tokenize([text])
        own = ids[0][mask[0]].tolist()
        assert own.count(end) == 1 and own[-1] == end
    ids, _ = encoder.tokenize(["effusion"])
    assert ids.shape[1] == 3  # a word of the corpus is one token, between start and end


def test_the_tokenizer_is_a_function_of_the_set_of_texts() -> None:
    corpus = [
        f"{word} in segment {number}" for number in range(9) for word in ("nodule", "mass", "opacity", "effusion")
    ]
    first = train_tokenizer(corpus, 700, 24)
    # Ties between pairs used to fall by the order of a hash table, which differs from one call to the next.
    for _ in range(8):
        again = train_tokenizer(corpus[::-1] * 2, 700, 24)
        assert (
            again.get_vocab() == first.get_vocab()
            and again.backend_tokenizer.to_str() == first.backend_tokenizer.to_str()
        )
    assert first.convert_ids_to_tokens(first("opacity")["input_ids"])[1:-1] == ["opacity</w>"]


def test_an_embedding_does_not_depend_on_the_batch() -> None:
    encoder = local()
    ids, mask = encoder.tokenize(CORPUS)
    with torch.no_grad():
        tokens, pooled = encoder(ids, mask)
    for row, (alone, whole) in enumerate(embed_texts(encoder, CORPUS, torch.device("cpu"))):
        torch.testing.assert_close(tokens[row, : len(alone)], alone, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(pooled[row], whole, atol=1e-5, rtol=1e-4)


def test_padding_to_the_longest_length_is_what_stable_diffusion_does() -> None:
    encoder = local("max")
    ids, _ = encoder.tokenize(["effusion", CORPUS[0]])
    assert ids.shape == (2, 24)
    assert encoder.count_tokens([CORPUS[0] * 9])[0] > 24 and encoder.tokenize([CORPUS[0] * 9])[0].shape[1] == 24


@pytest.mark.parametrize("kind", ["local", "bert", "t5"])
def test_saved_and_loaded(tmp_path: Path, kind: str) -> None:
    if kind == "local":
        encoder = local()
    else:
        folder = bert_folder(tmp_path / kind)
        if kind == "t5":
            (folder / "model.safetensors").unlink()
            with initial_weights(2):
                config = T5Config(vocab_size=11, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
                T5EncoderModel(config).save_pretrained(folder, safe_serialization=True)
        encoder = load_text_encoder(str(folder), 24).eval()
    encoder.save(tmp_path / "tokenizer", tmp_path / "text")
    again = load_text_parts(str(tmp_path / "text"), str(tmp_path / "tokenizer"), 24, "trim").eval()
    texts = ["small left effusion", "no heart"]
    with torch.no_grad():
        one, two = encoder(*encoder.tokenize(texts)), again(*again.tokenize(texts))
    assert one[0].shape[-1] == encoder.width and one[1].shape == (2, encoder.width)
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot be loaded"):
        load_text_encoder(str(tmp_path / "empty"), 24)
    folder = bert_folder(tmp_path / "bert")
    with pytest.raises(UserError, match="takes at most 32 tokens, not 64"):
        load_text_encoder(str(folder), 64)
    model = folder / "model.safetensors"
    torch.save({"weight": torch.zeros(1)}, folder / "pytorch_model.bin")
    model.unlink()
    with pytest.raises(UserError, match="safetensors"):
        load_text_encoder(str(folder), 24)


def test_further_modalities_leave_the_known_ones_as_they_are() -> None:
    with initial_weights(3):
        encoder = ConditionEncoder(ConditionConfig(8, 16, ("CT", "MR"), ("axial",)))
    grown = encoder.extended(["CXR", "CT"], ["PA"])
    assert grown.config.modalities == ("CT", "MR", "CXR") and grown.config.views == ("axial", "PA")
    tokens, mask, pooled = torch.ones(2, 3, 8), torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 8)
    old = encoder(tokens, mask, pooled, *encoder.indices(["MR", None], ["axial", None]))
    new = grown(tokens, mask, pooled, *grown.indices(["MR", None], ["axial", None]))
    for one, two in zip(old, new, strict=True):
        assert torch.equal(one, two)
    torch.testing.assert_close(grown.modality.weight[3], encoder.modality.weight.mean(0))
    with pytest.raises(UserError, match="modality 'US' was never trained on; known: CT, MR, CXR"):
        grown.indices(["US"], [None])


def test_the_moving_average_by_hand() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 0.0)
    average = ExponentialMovingAverage(layer, decay=0.5)
    for step, value in enumerate((1.0, 3.0), 1):
        torch.nn.init.constant_(layer.weight, value)
        average.update(step)
    # decay 2/11, then 3/12 = 1/4: (9/11) 1, then 1/4 of it and 3/4 of 3.
    expected = 0.25 * (9 / 11) + 0.75 * 3
    with average.applied():
        assert layer.weight.item() == pytest.approx(expected)
    assert layer.weight.item() == 3.0
