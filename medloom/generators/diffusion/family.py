"""The diffusion family, as the training program sees it: text-to-image, mask-to-image and editing."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.data.dataset import ImageSource
from medloom.generators.autoencoder.find import find_autoencoder, known_space
from medloom.generators.diffusion.base import StableDiffusionBase, find_base
from medloom.generators.diffusion.build import build_generator, from_stable_diffusion
from medloom.generators.diffusion.export import pipeline_of
from medloom.generators.diffusion.generator import DiffusionGenerator
from medloom.generators.diffusion.options import (
    DenoiserOptions,
    DiffusionOptions,
)
from medloom.generators.diffusion.task import DiffusionObjective, DiffusionTask
from medloom.generators.family import Origin
from medloom.generators.generator_family import GeneratorFamily
from medloom.generators.preparation import Prepared, with_channels
from medloom.generators.run_folder import Components
from medloom.generators.sampling import SamplingSettings
from medloom.generators.training_data import TrainingData
from medloom.generators.training_facts import TrainingFacts, find_text_encoder
from medloom.generators.unused_options import Unused
from medloom.networks.autoencoder import KLAutoencoder
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator


# Folded pixels that the network sees at its first resolution, where network.patch is left open.
CELLS = {2: 32**2, 3: 2 * 32**3}
STAGES = (1, 2)
# Options of what a base decides, less those that it leaves to the user.
BASE_BRINGS = ("network", "noise", "text.modality_as", "text.vocabulary", "text.width", "text.layers")
BASE_LEAVES = (
    "network.gradient_checkpointing", "network.prior", "network.mask", "noise.min_snr_gamma", "noise.offset",
    "noise.loss", "noise.level_balance",
)  # fmt: skip
AS_EXPORTABLE = {"network.exportable": True, "network.fusion": "cross-attention", "text.modality_as": "text"}
EXPORTABLE_BRINGS = (
    "network.attention", "network.patch", "network.fusion", "network.condition_width", "network.coordinates",
    "text.modality_as",
)  # fmt: skip
REGIONS = ("network.mask_balance", "network.region_styles", "network.region_slopes", "network.region_outputs")
OF_FLOW = ("noise.logit_mean", "noise.logit_std", "noise.shift", "noise.near_data")
OF_DDPM = ("noise.schedule", "noise.steps", "noise.prediction", "noise.min_snr_gamma")


class DiffusionFamily(GeneratorFamily[DiffusionOptions, "DiffusionGenerator", KLAutoencoder | None]):
    """Diffusion in pixels or latents."""

    name = "diffusion"
    generator = DiffusionGenerator
    has_image_losses = True

    def checked(self, options: DiffusionOptions) -> DiffusionOptions:
        """Refuse options that exclude each other."""
        network = options.network
        for one, other, why in (
            ("base", "from_run", "a run that is continued has its own weights"),
            ("base", "autoencoder", "a base brings its own autoencoder"),
            ("autoencoder", "patch", "an autoencoder takes whole images"),
        ):
            if getattr(options, one) and getattr(options, other):
                raise UserError(f"--{one} and --{'from' if other == 'from_run' else other} exclude each other: {why}.")
        if options.lora is not None and options.base is None:
            raise UserError("--lora needs --base, the Stable Diffusion model that it adapts.")
        if options.autoencoder is not None and len(options.space.size) == 3:
            raise UserError("--autoencoder takes whole 2-D images; leave it out, or leave out --dims 3.")
        if options.shift and (options.autoencoder or options.base):
            raise UserError("--shift moves pixels, and this model sees an autoencoder's latents; leave it out.")
        if network.mask == "none" and "mask" in options.need:
            raise UserError("--network.mask none: images are generated from masks; give channels or spade.")
        if network.mask == "none" and options.patch:
            raise UserError("--patch: patches are generated for masks; give --network.mask channels or spade.")
        if network.exportable and network.mask != "none":
            raise UserError("--network.exportable takes no mask; use the native network (leave it out).")
        if (network.prior != "none") != ("prior" in options.need):
            command = "train edit" if network.prior != "none" else "train text2image"
            raise UserError(f"--network.prior {network.prior}: use `medloom {command}`, or leave it out.")
        if options.stage not in STAGES:
            raise UserError(f"--stage {options.stage}: allowed are 1 (no prior images) and 2 (with them).")
        return options

    chosen_anew = (
        *GeneratorFamily.chosen_anew, "network.mask_balance", "noise.loss", "noise.level_balance"
    )  # fmt: skip

    def takes_priors(self, options: DiffusionOptions) -> bool:
        """See GeneratorFamily."""
        return options.network.prior != "none" and options.stage == 2

    def unused(self, options: DiffusionOptions, origin: Origin) -> Sequence[Unused]:
        """See Family: those of the network and the noise that a base brings, or that the chosen ones do not have."""
        found = list(super().unused(options, origin))
        if "prior" not in options.need:
            found.append(Unused(("stage",), "only editors are trained in two stages"))
        masked = options.network.mask != "none" if origin.model is None else bool(origin.model.model.mask_classes)
        if not masked:
            found.append(Unused(REGIONS, "the network takes no masks (--network.mask none)"))
        if origin.model is not None:
            return found
        if options.base is not None:
            known = _base_of(origin).known_options()
            found.append(Unused(BASE_BRINGS, "--base brings its own", known, BASE_LEAVES))
            return found
        if options.network.exportable:
            found.append(Unused(EXPORTABLE_BRINGS, "diffusers' U-Net has its own", AS_EXPORTABLE))
        of_process = {"flow": OF_FLOW, "ddpm": OF_DDPM}
        for process, names in of_process.items():
            if process != options.noise.process:
                found.append(Unused(names, f"it is of --noise.process {process}"))
        return found

    def sampling(self, options: DiffusionOptions) -> SamplingSettings:
        """See GeneratorFamily."""
        return options.sampling

    def may_leave_unused(self, options: DiffusionOptions) -> bool:
        """See GeneratorFamily."""
        return options.network.fusion != "cross-attention"

    def meets_empty_condition(self, options: DiffusionOptions) -> bool:
        """See GeneratorFamily; Stable Diffusion was trained with dropout of the text."""
        return options.base is not None or super().meets_empty_condition(options)

    def mask_labels(self, options: DiffusionOptions) -> tuple[int, ...] | None:
        """See GeneratorFamily."""
        return None if options.network.mask == "none" else options.network.mask_classes

    def parent_options(self, options: DiffusionOptions) -> tuple[Path | str | None, ...]:
        """See GeneratorFamily."""
        return (options.autoencoder,)

    def origin(self, options: DiffusionOptions) -> Origin:
        """A run that is continued, or the space of an autoencoder."""
        origin = super().origin(options)
        if options.base is not None:
            return replace(origin, base=find_base(options.base, "prior" in options.need))
        if origin.model is None:
            space = known_space(options.autoencoder, "--autoencoder") if options.autoencoder else None
            return replace(origin, space=space)
        if bool(origin.model.model.prior_channels) != (options.network.prior != "none"):
            kind = "an editor" if origin.model.model.prior_channels else "no editor"
            raise UserError(f"--from {options.from_run} is {kind}; continue it with the command that trained it.")
        return origin

    def prepare_space(
        self, options: DiffusionOptions, data: Prepared, origin: Origin
    ) -> tuple[Prepared, KLAutoencoder | None]:
        """See GeneratorFamily; the first stage of an editor leaves prior images out."""
        if options.stage == 1:
            data = replace(data, train=_without_priors(data.train), validation=_without_priors(data.validation))
        if origin.model is not None:
            return data, origin.model.autoencoder
        if options.base is not None:
            autoencoder = _base_of(origin).load_autoencoder()
        elif options.autoencoder is not None:
            autoencoder = find_autoencoder(Path(options.autoencoder), data)
        else:
            return data, None
        return with_channels(data, autoencoder.image_channels), autoencoder

    def fresh(
        self,
        options: DiffusionOptions,
        data: Prepared,
        facts: TrainingFacts,
        coder: KLAutoencoder | None,
        origin: Origin,
    ) -> DiffusionGenerator:
        """See GeneratorFamily."""
        _require_masks(options.network.styles_only, data)
        text = find_text_encoder(options.text, data)
        network, seed = _fitted(options.network, data.spec.size, facts, coder is not None), options.loop.seed
        if options.base is not None:
            return from_stable_diffusion(
                _base_of(origin), data.spec, facts, network, text, options.noise, options.lora, seed
            )
        return build_generator(data.spec, facts, coder, network, text, options.noise, seed)

    def continued(
        self,
        options: DiffusionOptions,
        data: Prepared,
        facts: TrainingFacts,
        coder: KLAutoencoder | None,
        known: DiffusionGenerator,
    ) -> DiffusionGenerator:
        """The generator with further modalities, views and columns; what it knew keeps its weights."""
        _require_masks(getattr(known.model.denoiser.config, "styles_only", False), data)
        if known.model.condition is not None:
            known.model.condition = known.model.condition.extended(facts.modalities, facts.views, facts.columns)
        known.spec = data.spec
        return known

    def own_components(self, trained: DiffusionGenerator) -> dict[str, Any]:
        """See GeneratorFamily."""
        vae = None if trained.autoencoder is None else trained.autoencoder.vae
        return {"denoiser": trained.model.denoiser, "autoencoder": vae}

    def components(self, trained: DiffusionGenerator) -> Components:
        """With the diffusers pipeline that opens it, if one does."""
        exporter = f"diffusers.{pipeline_of(trained.model)}" if trained.exportable else None
        return replace(super().components(trained), exporter=exporter)

    def loss_task(self, trained: DiffusionGenerator, data: TrainingData, device: "torch.device") -> DiffusionTask:
        """See GeneratorFamily."""
        return DiffusionTask(trained, data, data, LoopOptions(), 0.0, device, lambda generator, out, step: None)

    def task(
        self, options: DiffusionOptions, data: Prepared, trained: DiffusionGenerator, accelerator: "Accelerator"
    ) -> DiffusionTask:
        """See Family."""
        trained.to(accelerator.device)
        train, validation, render = self.caches(options, data, trained, accelerator)
        return DiffusionTask(
            trained,
            train,
            validation,
            options.loop,
            options.text.dropout,
            accelerator.device,
            render,
            options.text.learning_rate_factor,
            DiffusionObjective(options.noise.loss, options.network.mask_balance, options.noise.level_balance),
        )


def _base_of(origin: Origin) -> StableDiffusionBase:
    if not isinstance(origin.base, StableDiffusionBase):
        raise TypeError("--base is found before its parts are asked for")
    return origin.base


def _require_masks(styles_only: bool, data: Prepared) -> None:
    """Refuse images that texts and tables would not reach, in a network that is given them by the mask's regions."""
    unmasked = sum(sample.condition.mask is None for sample in data.train.samples)
    if styles_only and unmasked:
        raise UserError(
            f"network.styles_only: {unmasked} of {len(data.train.samples)} training images have no mask, and texts and"
            " tables would not reach them; add masks, or train a network without it."
        )


def _without_priors(source: ImageSource) -> ImageSource:
    samples = [
        replace(sample, condition=replace(sample.condition, prior=None), registered_prior=None)
        for sample in source.samples
    ]
    return replace(source, samples=samples)


def _fitted(network: DenoiserOptions, size: tuple[int, ...], facts: TrainingFacts, latent: bool) -> DenoiserOptions:
    """The network for the masks' classes, with the patch that was left open."""
    fitted = replace(network, mask_classes=facts.masks.visible)
    if network.patch:
        return fitted
    if latent:
        return replace(fitted, patch=1)
    dims, fold = len(size), 1
    while math.prod(size) > CELLS[dims] * fold**dims and all(length % (2 * fold) == 0 for length in size):
        fold *= 2
    return replace(fitted, patch=fold)
