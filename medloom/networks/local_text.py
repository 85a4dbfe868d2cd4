"""The `local` text encoder: a tokenizer trained on the manifest's text and a small CLIP text model.

It needs no download, and it is saved in the layout that diffusers' Stable Diffusion pipeline reads.
"""

import json
from collections.abc import Iterable
from typing import Any

END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], vocabulary: int, max_tokens: int) -> Any:
    """Train a byte-pair CLIP tokenizer (lower case, digits apart) on texts.

    Every byte is in the vocabulary, alone and as the end of a word, so that no text of any language is unknown to it.

    Args:
        texts: the corpus.
        vocabulary: number of tokens aimed at, merges of the corpus included.
        max_tokens: longest sequence, with its start and end.

    Returns:
        A `transformers.CLIPTokenizer`.
    """
    from tokenizers import pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    pipeline = CLIPTokenizer().backend_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # The trainer reserves room for its own alphabet only; ends of words and the two marks come on top.
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocabulary - len(alphabet) - 2, len(alphabet) + 1),
        initial_alphabet=alphabet,
        end_of_word_suffix=END_OF_WORD,
        special_tokens=[],
        show_progress=False,
    )
    # Sorted, so that ties between pairs do not depend on the order of rows.
    pipeline.train_from_iterator(sorted(set(texts)), trainer)
    merges = [tuple(pair) for pair in json.loads(pipeline.to_str())["model"]["merges"]]
    tokens = [
        *alphabet,
        *(letter + END_OF_WORD for letter in alphabet),
        *("".join(pair) for pair in merges),
        START,
        END,
    ]
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=max_tokens)


def make_text_model(tokenizer: Any, width: int, layers: int, max_tokens: int) -> Any:
    """A CLIP text model with fresh weights for `tokenizer`; a `transformers.CLIPTextModel`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=max_tokens,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)
