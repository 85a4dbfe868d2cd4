"""Text encoders by name: any transformers text encoder (CLIP, BERT or T5 type) from a folder, the hub, or `local`.

The `local` encoder is a tokenizer trained on the manifest's text and a small CLIP text model. It needs no download, and
it is saved in the layout that diffusers' Stable Diffusion pipeline reads.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medloom.core.errors import UserError, first_line
from medloom.core.seeds import initial_weights
from medloom.networks.library_errors import LOAD_ERRORS
from medloom.networks.text_pooling import Pooling, load_pooling, mean_over_tokens, read_pooling_config
from medloom.networks.weights import require_finite
from medloom.networks.weights_source import HUB, WeightsSource, find_weights

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerBase

LOCAL = "local"
CLIP_TYPES, T5_TYPES = ("clip", "clip_text_model"), ("t5", "mt5")
END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
PRIVATE_USE = 0xE000


class TextEncoder(nn.Module):
    """A tokenizer and a transformers text model with one interface.

    Attributes:
        tokenizer: the transformers tokenizer.
        model: the transformers text model.
        max_tokens: longest sequence; longer texts are truncated.
        pad: `trim` pads to the longest text of a batch (for networks that mask padding); `max` always pads to
            `max_tokens`, like Stable Diffusion's pipeline.
        pooling: how an imported encoder pools; None for what `forward` says.
    """

    model: Any

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        model: nn.Module,
        max_tokens: int,
        pad: str = "trim",
        pooling: Pooling | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.model = model
        self.max_tokens = max_tokens
        self.pad = pad
        self.pooling = pooling

    @property
    def width(self) -> int:
        """Width of token embeddings."""
        return int(self.model.config.hidden_size)

    @property
    def pooled_width(self) -> int:
        """Width of the pooled vector."""
        return self.width if self.pooling is None else self.pooling.config.width

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids int64 `(N, L)` and mask bool `(N, L)`."""
        encoded = self.tokenizer(
            list(texts),
            padding="longest" if self.pad == "trim" else "max_length",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        return encoded["input_ids"], encoded["attention_mask"].bool()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before truncation, start and end included."""
        # Without the library's own warning of long texts, which are counted here.
        return [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embed tokens.

        Args:
            ids: int64 `(N, L)`.
            mask: bool `(N, L)`; with `pad="max"` the model gets no mask, as in Stable Diffusion's pipeline.

        Returns:
            Token embeddings `(N, L, D)` and a pooled vector `(N, P)`: as the encoder was published, where the import
            of its weights stored that; else the end token of a CLIP model, and for other models, whose pooler is often
            untrained, the mean over tokens.
        """
        states = {"output_hidden_states": True} if self.pooling is not None and self.pooling.config.layers else {}
        output = self.model(input_ids=ids, attention_mask=None if self.pad == "max" else mask.long(), **states)
        tokens = output.last_hidden_state
        if self.pooling is not None:
            return tokens, self.pooling(output, mask)
        if self.model.config.model_type in CLIP_TYPES:
            return tokens, output.pooler_output
        return tokens, mean_over_tokens(tokens, mask)

    def save(self, tokenizer: Path, model: Path) -> None:
        """Write the tokenizer and the weights (safetensors), with those of the pooling, to two folders."""
        from transformers.utils import logging

        # The library's bar for each checkpoint would break up our own.
        logging.disable_progress_bar()
        self.tokenizer.save_pretrained(tokenizer)
        self.model.save_pretrained(model, safe_serialization=True)
        if self.pooling is not None:
            self.pooling.save(model)


def load_text_encoder(name: str, max_tokens: int, pad: str = "trim") -> TextEncoder:
    """Load a text encoder from a folder or from the hub.

    Args:
        name: a folder with model and tokenizer, or `hf:ORG/NAME`.
        max_tokens: longest sequence; at most the model's own.
        pad: see TextEncoder.

    Raises:
        UserError: it cannot be found, has no safetensors, is shorter than `max_tokens`, or has weights that are not
            finite.
    """
    return load_text_parts(name, None, max_tokens, pad)


def load_text_parts(
    model_name: str, tokenizer_name: str | None, max_tokens: int, pad: str, variant: str | None = None
) -> TextEncoder:
    """Load model and tokenizer from two folders (Stable Diffusion's `text_encoder/` and `tokenizer/`), in fp32.

    Args:
        model_name: a folder, or `hf:ORG/NAME`.
        tokenizer_name: a folder, or None for that of the model.
        max_tokens: longest sequence; at most the model's own.
        pad: see TextEncoder.
        variant: of the files of weights, as `fp16`; None for the plain ones.

    Raises:
        UserError: see `load_text_encoder`.
    """
    source = find_weights(model_name, "text encoder")
    tokens = source if tokenizer_name is None else find_weights(tokenizer_name, "tokenizer")
    try:
        model, tokenizer = _load_model(source, variant), _load_tokenizer(tokens)
    except LOAD_ERRORS as error:
        raise _not_loaded(source, error) from error
    require_finite(model.state_dict(), f"text encoder {model_name}")
    pooling = None if source.folder is None else load_pooling(source.folder)
    longest = getattr(model.config, "max_position_embeddings", max_tokens)
    if pooling is not None and pooling.config.max_tokens:
        longest = min(longest, pooling.config.max_tokens)
    if max_tokens > longest:
        raise UserError(f"text encoder {model_name!r} takes at most {longest} tokens, not {max_tokens}.")
    return TextEncoder(tokenizer, model, max_tokens, pad, pooling)


def _load_model(source: WeightsSource, variant: str | None) -> Any:
    """The transformers model; only safetensors are opened, because other weight files can run code."""
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    where: dict[str, Any] = {"trust_remote_code": False, "local_files_only": source.is_local}
    how = {"use_safetensors": True, "variant": variant, "dtype": torch.float32}
    config = AutoConfig.from_pretrained(source.name, **where)
    # A pooler that was not published, which nothing uses, is at least the same each time.
    with initial_weights(0):
        model, info = (text_class(config.model_type) or AutoModel).from_pretrained(
            source.name, output_loading_info=True, **how, **where
        )
    if missing := sorted(name for name in info["missing_keys"] if "pooler" not in name):
        raise ValueError(f"weights are missing: {missing[0]} and {len(missing) - 1} more")
    return model


def text_class(kind: str) -> Any:
    """The transformers class of a type whose text encoder is only a part of the model; None of other types."""
    from transformers import CLIPTextModel, T5EncoderModel

    return {**dict.fromkeys(CLIP_TYPES, CLIPTextModel), **dict.fromkeys(T5_TYPES, T5EncoderModel)}.get(kind)


def _load_tokenizer(source: WeightsSource) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    from medloom.networks.weights_import.layouts import TOKENIZER_FILES, has_tokenizer

    # transformers would make a tokenizer without words.
    if source.folder is not None and not has_tokenizer(source.folder):
        raise UserError(
            f"{source.name} has no tokenizer ({', '.join(TOKENIZER_FILES[:4])}), which a text encoder needs; fetch the"
            " complete folder again."
        )
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        source.name, trust_remote_code=False, local_files_only=source.is_local
    )
    return tokenizer


def _not_loaded(source: WeightsSource, error: Exception) -> UserError:
    """Says what lies where a text encoder should be, and what to do."""
    from medloom.networks.weights_import.layouts import why_not_loaded

    if source.folder is None:
        reason = first_line(error)
        return UserError(
            f"text encoder {HUB}{source.name} cannot be loaded from the hub ({reason}); name a folder, or {LOCAL!r}."
        )
    reason, converts = why_not_loaded(source.folder, error)
    remedy = (
        f"convert it: medloom data import weights --text-encoder {source.name} --out DIR"
        if converts
        else f"give a folder of a transformers text encoder with safetensors weights, {HUB}ORG/NAME, or {LOCAL!r}"
    )
    return UserError(f"text encoder {source.name!r} cannot be loaded: {reason}; {remedy}.")


def pooled_width_of(name: str) -> int | None:
    """The pooled vector's width of an imported encoder; None for one that is as wide as its tokens.

    Args:
        name: as of `load_text_encoder`, or `local`.

    Raises:
        UserError: settings that were edited or cut short.
    """
    config = None if name.startswith(HUB) else read_pooling_config(Path(name))
    return None if config is None else config.width


def embed_texts(encoder: TextEncoder, texts: Sequence[str], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Embed texts one by one with a frozen encoder, so that an embedding does not depend on other texts of a batch.

    Returns:
        For each text float32 tokens `(L, D)`, padding trimmed unless `pad="max"`, and pooled `(D,)`, on the CPU.
    """
    results = []
    with torch.no_grad():
        for text in texts:
            ids, mask = encoder.tokenize([text])
            tokens, pooled = encoder(ids.to(device), mask.to(device))
            results.append((tokens[0].float().cpu(), pooled[0].float().cpu()))
    return results


def train_tokenizer(texts: Iterable[str], vocabulary: int, max_tokens: int) -> "CLIPTokenizer":
    """Train a byte-pair CLIP tokenizer (lower case, digits apart) on texts.

    Every byte is in the vocabulary, alone and as the end of a word, so that no text of any language is unknown.

    Args:
        texts: the corpus.
        vocabulary: target number of tokens, including merges.
        max_tokens: longest sequence, start and end included.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # The alphabet, its ends of words and the two marks come first.
    count = max(0, vocabulary - 2 * len(alphabet) - 2)
    # The library numbers letters that end a word in the order of a hash table, so that ties between pairs would be
    # broken differently from run to run. Here such letters are separate letters from Unicode's private use area.
    ends = {letter: chr(PRIVATE_USE + number) for number, letter in enumerate(alphabet)}
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + count, initial_alphabet=[*alphabet, *ends.values()], show_progress=False
    )
    pipeline = CLIPTokenizer().backend_tokenizer

    def marked(text: str) -> str:
        """A text's words as CLIP's tokenizer splits them, with the last letter of each marked."""
        words = pipeline.pre_tokenizer.pre_tokenize_str(pipeline.normalizer.normalize_str(text))
        return " ".join(word[:-1] + ends[word[-1]] for word, _ in words)

    trained.train_from_iterator(map(marked, sorted(set(texts))), trainer)
    # The pairs to merge, most frequent first; a function of the set of texts only.
    pairs = json.loads(trained.to_str())["model"]["merges"][:count]
    spoken = str.maketrans({end: letter + END_OF_WORD for letter, end in ends.items()})
    merges = [(left.translate(spoken), right.translate(spoken)) for left, right in pairs]
    tokens = [
        *alphabet,
        *(letter + END_OF_WORD for letter in alphabet),
        *("".join(pair) for pair in merges),
        START,
        END,
    ]
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=max_tokens)


def make_text_model(tokenizer: "CLIPTokenizer", width: int, layers: int, max_tokens: int) -> "CLIPTextModel":
    """Create a CLIP text model with fresh weights for `tokenizer`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
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
    )
