"""Losses of a generator on single images, which a membership inference attack compares."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import hash_json
from medloom.core.progress import progress
from medloom.core.types import Sample
from medloom.data.dataset import ImageSource
from medloom.generators.registry import get_family
from medloom.generators.row_caches import RowCaches
from medloom.generators.storage import load

DRAWS = 16


def attack_refusal(model: Path) -> str | None:
    """Why a model has no losses of single images; None where it has."""
    generator = load(model, "cpu")
    if not get_family(generator.family).has_image_losses:
        return f"{model} is a GAN, which has no loss of an image that an attack could use"
    if generator.spec.patch:
        return f"{model} was trained on patches, and an attack is of models of whole images"
    return None


def image_losses(
    model: Path,
    samples: Sequence[Sample],
    hashes: Sequence[str],
    folder: Path,
    unit: str | None,
    device: str,
    draws: int = DRAWS,
) -> NDArray[np.float64]:
    """The mean training loss of each image at fixed draws of noise, time and masks, with its whole condition.

    Args:
        model: run folder of diffusion or tokens.
        samples: images with their conditions.
        hashes: of their files.
        folder: for decoded images and texts.
        unit: of files that do not state theirs.
        device: auto, cpu or cuda.
        draws: how many are averaged over.

    Returns:
        float64 `(n,)`, lower where the model knows an image better.

    Raises:
        UserError: a model that `attack_refusal` refuses, or images that it cannot take.
    """
    from accelerate import Accelerator

    refusal = attack_refusal(model)
    if refusal:
        raise UserError(f"{refusal}.")
    generator = load(model, "cpu", unit)
    generator.check_conditions([sample.condition for sample in samples])
    accelerator = Accelerator(cpu=device == "cpu")
    generator.to(accelerator.device)
    key = {"files": hash_json(list(hashes)), "model": generator.model_hash, "unit": unit}
    source = ImageSource(samples, generator.spec, unit, key, generator.masks)
    data = RowCaches(folder, False, generator, accelerator).data(source)
    task = get_family(generator.family).loss_task(generator, data, accelerator.device)
    generator.model.eval()
    found = np.zeros(len(samples))
    with torch.no_grad(), progress("losses of single images", draws, "draws") as advance:
        for draw in range(draws):
            found += task.image_losses(data, list(range(len(samples))), f"attack {draw}")
            advance()
    return found / draws
