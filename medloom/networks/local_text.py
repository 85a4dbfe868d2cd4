"""The `local` text encoder: a tokenizer trained on the manifest's text and a small CLIP text model.

It needs no download, and it is saved in the layout that diffusers' Stable Diffusion pipeline reads.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
PRIVATE_USE = 0xE000


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
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Room for the alphabet, its ends of words, and the two marks comes first.
    merges = _merges(texts, alphabet, max(0, vocabulary - 2 * len(alphabet) - 2))
    tokens = [
        *alphabet,
        *(letter + END_OF_WORD for letter in alphabet),
        *("".join(pair) for pair in merges),
        START,
        END,
    ]
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=max_tokens)


def _merges(texts: Iterable[str], alphabet: Sequence[str], count: int) -> list[tuple[str, str]]:
    """The pairs to merge, most frequent first; a function of the set of texts alone.

    The library numbers letters that end a word in the order of a hash table, so that ties between pairs would fall
    differently from run to run. Here such letters are letters of their own, from Unicode's private use area.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    ends = {letter: chr(PRIVATE_USE + number) for number, letter in enumerate(alphabet)}
    spoken = {end: letter + END_OF_WORD for letter, end in ends.items()}
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + count, initial_alphabet=[*alphabet, *ends.values()], show_progress=False
    )
    pipeline = CLIPTokenizer().backend_tokenizer
    trained.train_from_iterator((" ".join(_words(text, pipeline, ends)) for text in sorted(set(texts))), trainer)
    pairs = json.loads(trained.to_str())["model"]["merges"]

    def plain(part: str) -> str:
        return "".join(spoken.get(letter, letter) for letter in part)

    return [(plain(left), plain(right)) for left, right in pairs[:count]]


def _words(text: str, pipeline: Any, ends: Mapping[str, str]) -> list[str]:
    """The words of a text as CLIP's tokenizer splits them, the last letter of each marked as such."""
    words = pipeline.pre_tokenizer.pre_tokenize_str(pipeline.normalizer.normalize_str(text))
    return [word[:-1] + ends[word[-1]] for word, _ in words]


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
