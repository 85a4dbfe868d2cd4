"""Encoders of images and texts in one space: those of `medloom train text-encoder`, and CLIP models of transformers."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medloom.core.errors import UserError, first_line
from medloom.core.files import hash_json, read_mapping
from medloom.core.seeds import initial_weights
from medloom.core.spec import ImageSpec
from medloom.downstream.networks import hash_weights
from medloom.evaluation.images.features import Extractor
from medloom.evaluation.images.vision_models import PREPROCESSOR, Preprocessing, preprocessing_of
from medloom.generators.contrastive.pairs import JOINT, PairEncoder
from medloom.generators.run_folder import INDEX, MODEL, RunFolder, find_run, open_run
from medloom.networks.library_errors import LOAD_ERRORS
from medloom.networks.weights import CONFIG, require_finite
from medloom.networks.weights_import.layouts import has_tokenizer

OPTION = "--pair-encoder"
FAMILY = "text-encoder"
ALLOWED = "give a run folder of `medloom train text-encoder`, or a folder of a transformers CLIP model"
# Where newer versions of transformers have the settings of the image processor.
PROCESSOR, IMAGE_PROCESSOR = "processor_config.json", "image_processor"
# What transformers calls one half of a CLIP model, and the half that is missing.
HALVES = {"clip_text_model": "image", "clip_vision_model": "text"}
TEXTS_AT_ONCE = 64

Vectors = NDArray[np.float32]
Tokens = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class JointEncoder:
    """Maps images and texts to unit vectors of one space.

    Attributes:
        folder: as the user named it.
        statement: what it is in words.
        identity: a hash of everything that its vectors depend on.
        own: the space in which it takes images; None for that of the evaluation with the preprocessing.
        preprocessing: of a CLIP model; None of an encoder of medloom.
        see: maps float32 `(N, C, *size)` in [-1, 1] to unit vectors float32 `(N, J)`.
        read_batch: maps texts to unit vectors float32 `(N, J)`.
        count_tokens: of each text, before it is cut.
        max_tokens: of the longest text that it reads whole.
        run: of the training that made it, which knows its patients; None if none is recorded.
    """

    folder: Path
    statement: str
    identity: str
    own: ImageSpec | None
    preprocessing: Preprocessing | None
    see: Callable[[NDArray[np.float32]], Vectors]
    read_batch: Callable[[Sequence[str]], Vectors]
    count_tokens: Callable[[Sequence[str]], list[int]]
    max_tokens: int
    run: RunFolder | None = None

    def extractor(self, spec: ImageSpec, modalities: Collection[str]) -> Extractor:
        """Its image part as an extractor.

        Args:
            spec: the space in which the images of this evaluation are read.
            modalities: of the images.

        Raises:
            UserError: images of another number of axes, or of a modality that an encoder of medloom has not seen.
        """
        own = self.own
        if own is None:
            taken = self.preprocessing
            if taken is None:
                raise ValueError("an encoder without a space and without preprocessing")
            own = replace(spec, size=taken.size, resize="crop" if taken.crop else "pad")
        if spec.spatial_dims != len(own.size) or (self.own is None and spec.spatial_dims != 2):
            axes = 2 if self.own is None else own.spatial_dims
            raise UserError(
                f"{OPTION} {self.folder} takes images of {axes} axes, and these have {spec.spatial_dims}; give an"
                " encoder that was trained on such images."
            )
        if unseen := sorted(set(modalities) - set(own.intensity)):
            raise UserError(
                f"{OPTION} {self.folder} was not trained on images of {', '.join(unseen)}; known:"
                f" {', '.join(sorted(own.intensity))}; give another encoder, or sets without these images."
            )
        identity = hash_json(["joint", self.identity, own.fingerprint()])
        return Extractor("pair encoder", self.statement, identity, own, self.see)

    def read(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors float32 `(N, J)` of texts."""
        parts = [texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE)]
        return np.concatenate([self.read_batch(part) for part in parts])


def load_joint_encoder(path: Path, device: str = "cpu") -> JointEncoder:
    """Load an encoder of images and texts.

    Args:
        path: a run folder of `medloom train text-encoder`, its `model`, or a folder of a transformers CLIP model.
        device: a torch device.

    Raises:
        UserError: neither of them, or a part or a file is missing or damaged; names --pair-encoder.
    """
    if not path.is_dir():
        raise UserError(f"{OPTION} {path} is not a folder; {ALLOWED}.")
    inside = path.resolve()
    if inside.name == MODEL and (inside.parent / INDEX).is_file():
        path = path.parent if path.name == MODEL else inside.parent
    if find_run(path) is not None:
        return _of_run(path, device)
    if (path / JOINT / CONFIG).is_file():
        raise UserError(
            f"{OPTION} {path} is a model without its run folder, which says how images are read and which patients it"
            " has seen; give the run folder of `medloom train text-encoder`."
        )
    return _of_clip(path, device)


def _of_run(path: Path, device: str) -> JointEncoder:
    """The encoder of a run folder of medloom."""
    run = open_run(path, (FAMILY,), OPTION)
    identity = run.description()["identity"]
    spec, tokens = ImageSpec.from_dict(identity["spec"]), identity["options"]["encoder"]["max_tokens"]
    if spec.patch:
        raise UserError(f"{OPTION} {path} was trained on parts of images; give one that was trained on whole images.")
    try:
        pairs = PairEncoder.load(run.model, tokens).to(device).eval()
    except UserError as error:
        raise UserError(f"{OPTION} {path}: {error}") from error
    except LOAD_ERRORS as error:
        raise UserError(
            f"{OPTION} {path} cannot be loaded ({first_line(error)}): it was cut short or changed, or another version"
            " wrote it."
        ) from error

    @torch.inference_mode()
    def see(images: NDArray[np.float32]) -> Vectors:
        return pairs.joint.see(torch.from_numpy(images).to(device)).cpu().numpy()

    @torch.inference_mode()
    def read(texts: Sequence[str]) -> Vectors:
        ids, mask = pairs.text.tokenize(texts)
        return pairs.read(ids.to(device), mask.to(device)).cpu().numpy()

    size = " x ".join(map(str, spec.size))
    return JointEncoder(
        folder=path,
        statement=f"the encoder of `medloom train text-encoder` in {path.resolve().name}, images of {size} pixels",
        identity=hash_json(["run", run.model_hash(), spec.fingerprint(), tokens]),
        own=spec,
        preprocessing=None,
        see=see,
        read_batch=read,
        count_tokens=pairs.text.count_tokens,
        max_tokens=tokens,
        run=run,
    )


def _of_clip(path: Path, device: str) -> JointEncoder:
    """The encoder of a folder that transformers wrote for a CLIP model; only safetensors are opened."""
    model, tokenizer = _load_clip(path)
    preprocessing = preprocessing_of(_image_settings(path), f"{OPTION} {path}")
    require_finite(model.state_dict(), f"{OPTION} {path}")
    if (channels := model.config.vision_config.num_channels) != 3:
        raise UserError(f"{OPTION} {path} takes images of {channels} channels; give a model of three.")
    model = model.to(device).eval()
    longest = int(model.config.text_config.max_position_embeddings)

    @torch.inference_mode()
    def see(images: NDArray[np.float32]) -> Vectors:
        pooled = model.vision_model(pixel_values=preprocessing(images).to(device)).pooler_output
        return F.normalize(model.visual_projection(pooled).float(), dim=1).cpu().numpy()

    @torch.inference_mode()
    def read(texts: Sequence[str]) -> Vectors:
        encoded = tokenizer(list(texts), padding="longest", truncation=True, max_length=longest, return_tensors="pt")
        ids, mask = encoded["input_ids"].to(device), encoded["attention_mask"].to(device)
        pooled = model.text_model(input_ids=ids, attention_mask=mask).pooler_output
        return F.normalize(model.text_projection(pooled).float(), dim=1).cpu().numpy()

    def count(texts: Sequence[str]) -> list[int]:
        # Without the library's own warning of long texts, which are counted here.
        return [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]

    words = hash_json(sorted(tokenizer.get_vocab().items()))
    return JointEncoder(
        folder=path,
        statement=f"the CLIP model in {path.resolve().name}; {preprocessing.statement}",
        identity=hash_json(["clip", hash_weights(model), preprocessing.settings, words, longest]),
        own=None,
        preprocessing=preprocessing,
        see=see,
        read_batch=read,
        count_tokens=count,
        max_tokens=longest,
    )


def _load_clip(path: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a CLIP folder."""
    from transformers import AutoTokenizer, CLIPModel
    from transformers.utils import logging

    if not (path / CONFIG).is_file():
        raise UserError(f"{OPTION} {path} has neither an {INDEX} nor a {CONFIG}; {ALLOWED}.")
    kind = read_mapping(path / CONFIG).get("model_type")
    if kind in HALVES:
        raise UserError(f"{OPTION} {path} has no {HALVES[kind]} part (its type is {kind}); {ALLOWED}.")
    if kind != "clip":
        raise UserError(f"{OPTION} {path} is of type {kind}, not clip; {ALLOWED}.")
    if not has_tokenizer(path):
        raise UserError(f"{OPTION} {path} has no tokenizer; fetch the complete folder again.")
    logging.disable_progress_bar()
    where: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        # Weights that are missing are refused below, so their seed is of no account.
        with initial_weights(0):
            model, info = CLIPModel.from_pretrained(
                path, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **where
            )
        tokenizer = AutoTokenizer.from_pretrained(path, **where)
    except LOAD_ERRORS as error:
        raise UserError(
            f"{OPTION} {path} cannot be loaded ({first_line(error)}); give a folder with {CONFIG}, a tokenizer and"
            " safetensors weights."
        ) from error
    if missing := sorted(info["missing_keys"]):
        part = {"text": "text part", "vision": "image part", "visual": "image part"}.get(missing[0].split("_")[0])
        raise UserError(f"{OPTION} {path} lacks weights of its {part or 'network'} ({missing[0]}, ...); {ALLOWED}.")
    return model, tokenizer


def _image_settings(path: Path) -> dict[str, Any]:
    """The settings of a folder's image processor."""
    if (path / PREPROCESSOR).is_file():
        return dict(read_mapping(path / PREPROCESSOR))
    nested = read_mapping(path / PROCESSOR).get(IMAGE_PROCESSOR) if (path / PROCESSOR).is_file() else None
    if not isinstance(nested, dict):
        raise UserError(f"{OPTION} {path} has no {PREPROCESSOR}, so its preprocessing is unknown; {ALLOWED}.")
    return nested
