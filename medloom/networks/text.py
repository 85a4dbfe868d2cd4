"""Text encoders by name: any transformers text encoder (CLIP, BERT or T5 type) from a folder or the hub, or `local`.

The `local` encoder is a tokenizer trained on the manifest's text and a small CLIP text model. It needs no download, and
it is saved in the layout that diffusers' Stable Diffusion pipeline reads.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medloom.core.errors import UserError

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerBase

LOCAL = "local"
CLIP_TYPES = ("clip", "clip_text_model")
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
    """

    model: Any

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", model: nn.Module, max_tokens: int, pad: str = "trim"
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.model = model
        self.max_tokens = max_tokens
        self.pad = pad

    @property
    def width(self) -> int:
        """Width of token embeddings and of the pooled vector."""
        return int(self.model.config.hidden_size)

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
            Token embeddings `(N, L, D)` and a pooled vector `(N, D)`: the end token of a CLIP model; for other models,
            whose pooler is often untrained, the mean over tokens.
        """
        output = self.model(input_ids=ids, attention_mask=None if self.pad == "max" else mask.long())
        tokens = output.last_hidden_state
        if self.model.config.model_type in CLIP_TYPES:
            return tokens, output.pooler_output
        weight = mask.to(tokens.dtype)[..., None]
        return tokens, (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)

    def save(self, tokenizer: Path, model: Path) -> None:
        """Write the tokenizer and the weights (safetensors) to two folders."""
        from transformers.utils import logging

        # The library's bar for each checkpoint would break up our own.
        logging.disable_progress_bar()
        self.tokenizer.save_pretrained(tokenizer)
        self.model.save_pretrained(model, safe_serialization=True)


def load_text_encoder(name: str, max_tokens: int, pad: str = "trim") -> TextEncoder:
    """Load a text encoder from a folder or by hub id.

    Args:
        name: a folder with model and tokenizer, or a hub id.
        max_tokens: longest sequence; at most the model's own.
        pad: see TextEncoder.

    Raises:
        UserError: it cannot be found, has no safetensors, or is shorter than `max_tokens`.
    """
    folder = Path(name)
    return load_text_parts(str(folder) if folder.is_dir() else name, None, max_tokens, pad)


def load_text_parts(
    model_name: str, tokenizer_name: str | None, max_tokens: int, pad: str, variant: str | None = None
) -> TextEncoder:
    """Load model and tokenizer from two folders (Stable Diffusion's `text_encoder/` and `tokenizer/`), in fp32.

    Args:
        model_name: of the model.
        tokenizer_name: of the tokenizer, or None for the model's.
        max_tokens: see `load_text_encoder`.
        pad: see TextEncoder.
        variant: of the files of weights, as `fp16`; None for the plain ones.

    Raises:
        UserError: see `load_text_encoder`.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModel, T5EncoderModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    classes = dict.fromkeys(CLIP_TYPES, CLIPTextModel) | dict.fromkeys(("t5", "mt5"), T5EncoderModel)
    try:
        config = AutoConfig.from_pretrained(model_name, trust_remote_code=False)
        # Only safetensors are opened, because other weight files can run code.
        model = classes.get(config.model_type, AutoModel).from_pretrained(
            model_name, use_safetensors=True, trust_remote_code=False, variant=variant, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name or model_name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"text encoder {model_name!r} cannot be loaded ({str(error).strip().splitlines()[0]}); give a folder or hub"
            f" id of a transformers text encoder with safetensors weights, or {LOCAL!r}."
        ) from error
    longest = getattr(model.config, "max_position_embeddings", max_tokens)
    if max_tokens > longest:
        raise UserError(f"text encoder {model_name!r} takes at most {longest} tokens, not {max_tokens}.")
    return TextEncoder(tokenizer, model, max_tokens, pad)


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
