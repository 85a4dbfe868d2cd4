"""The autoencoders, as the training program sees them: latents for diffusion, tokens for transformers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medloom.core.choices import SCALARS
from medloom.core.errors import UserError
from medloom.core.files import write_json
from medloom.core.progress import progress, say
from medloom.core.types import Task
from medloom.data.dataset import ImageSource, cached_usable_images
from medloom.generators.autoencoder.build import build_autoencoder, build_tokenizer
from medloom.generators.autoencoder.find import known_space, load_trained
from medloom.generators.autoencoder.losses import AutoencoderLosses
from medloom.generators.autoencoder.options import KL, VQ, EncodeImages
from medloom.generators.autoencoder.quality import (
    Autoencoder,
    ImageData,
    codes_used,
    reconstruction_quality,
    save_comparison,
)
from medloom.generators.autoencoder.storage import kind_of, vae_folder, vq_folder
from medloom.generators.autoencoder.task import AutoencoderTask
from medloom.generators.family import Family, Origin
from medloom.generators.leakage import refuse_seen_parent
from medloom.generators.preparation import Prepared, spread, with_channels
from medloom.generators.run_folder import Components, open_run, runs_among
from medloom.generators.unused_options import Unused, flat_options
from medloom.networks.autoencoder import KLAutoencoder, load_autoencoder
from medloom.networks.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator
    from numpy.typing import NDArray


OF_KL = ("autoencoder.latent_channels", "autoencoder.kl_weight")
OF_VQ = ("autoencoder.quantizer", "autoencoder.quantizer_weight")
OF_CODES, OF_SCALARS = ("autoencoder.codes", "autoencoder.code_width"), ("autoencoder.levels",)
SHAPE = (
    "autoencoder.widths", "autoencoder.depth", "autoencoder.latent_channels", "autoencoder.quantizer", *OF_CODES,
    *OF_SCALARS,
)  # fmt: skip
FIXED_IMAGES, SHOWN_IMAGES, REPORTED_IMAGES = 16, 24, 2000
# Perplexity below which tokens say nothing of their image.
COLLAPSED = 1.5
REPORT, PICTURE = "reconstruction.json", "reconstruction.png"


class AutoencoderFamily(Family[EncodeImages, "Autoencoder"]):
    """KL autoencoders and tokenizers."""

    name = "autoencoder"

    def checked(self, options: EncodeImages) -> EncodeImages:
        """Refuse options that exclude each other."""
        if options.kind == KL and len(options.image_size) > 2:
            raise UserError(
                f"--image-size {' '.join(map(str, options.image_size))}: the KL autoencoder takes images of two axes;"
                " give one or two numbers, or --kind vq."
            )
        if options.base is not None and options.from_run is not None:
            raise UserError("--base and --from exclude each other: a run that is continued has its own weights.")
        return options

    def at_full_load(self, options: EncodeImages) -> EncodeImages:
        """With the adversarial loss from the first step."""
        return replace(options, autoencoder=replace(options.autoencoder, adversarial_start=0))

    def origin(self, options: EncodeImages) -> Origin:
        """A run that is continued, whose window of HU is the default."""
        before = {}
        if options.from_run is not None:
            run = open_run(options.from_run, (self.name,), "--from")
            before = dict(flat_options(run.description()["identity"]["options"]))
        space = known_space(options.from_run, "--from")
        return Origin(runs_among(options.from_run), space=space, options=before)

    def unused(self, options: EncodeImages, origin: Origin) -> Sequence[Unused]:
        """See Family."""
        if options.from_run is not None:
            return [Unused(SHAPE, "the run of --from brings its own", origin.options)]
        if options.base is not None:
            return [Unused(SHAPE, "--base brings its own")]
        if options.kind == KL:
            return [Unused((*OF_VQ, *OF_CODES, *OF_SCALARS), "it is of --kind vq")]
        other = OF_CODES if options.autoencoder.quantizer == SCALARS else OF_SCALARS
        of = "other quantizers than fsq" if options.autoencoder.quantizer == SCALARS else "--autoencoder.quantizer fsq"
        return [Unused(OF_KL, "it is of --kind kl"), Unused(other, f"it is of {of}")]

    def build(
        self, options: EncodeImages, data: Prepared, origin: Origin, verbose: bool
    ) -> tuple[Prepared, Autoencoder]:
        """The autoencoder that is trained, and the data in the channels that it takes."""
        spec, shape, seed = data.spec, options.autoencoder, options.loop.seed
        found: Autoencoder
        if options.from_run is not None:
            run = open_run(options.from_run, (self.name,), "--from")
            if (kind := kind_of(run.model)) != options.kind:
                raise UserError(f"--from {options.from_run} is of --kind {kind}, not {options.kind}; give that kind.")
            refuse_seen_parent(run, data, "autoencoder")
            found = load_trained(run.model)
        elif options.kind == VQ and options.base is not None:
            found = load_tokenizer(vq_folder(options.base, "--base"))
        elif options.kind == VQ:
            found = build_tokenizer(spec.spatial_dims, spec.channels, shape, seed)
        elif options.base is not None:
            found = load_autoencoder(vae_folder(options.base, "--base"))
        else:
            found = build_autoencoder(spec.channels, shape, seed)
        data = with_channels(data, found.image_channels)
        # Refuses sizes that it cannot halve.
        if isinstance(found, KLAutoencoder):
            found.latent_shape(data.spec.size)
        else:
            found.grid(data.spec.size)
        return data, found

    def components(self, trained: Autoencoder) -> Components:
        """The class of the component, and what opens it."""
        inner = trained.vae if isinstance(trained, KLAutoencoder) else trained.coder
        name = type(inner).__name__
        of_diffusers = type(inner).__module__.startswith("diffusers")
        return Components({"autoencoder": name}, f"diffusers.{name}" if of_diffusers else None)

    def task(
        self, options: EncodeImages, data: Prepared, trained: Autoencoder, accelerator: "Accelerator"
    ) -> AutoencoderTask:
        """See Family."""
        import torch

        device, spec = accelerator.device, data.spec
        losses = AutoencoderLosses(options.autoencoder, spec, options.loop.seed, device)
        # The main process fills the cache, the others wait and read it.
        with accelerator.main_process_first():
            verbose = accelerator.is_main_process
            train, validation = (_images(options, source, verbose) for source in (data.train, data.validation))
        trained.to(device)
        if spec.spatial_dims == 2:
            # 2-D convolutions are faster with the channels last, on a CPU and on a GPU.
            trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        examples = _chosen(validation if len(validation) else train, FIXED_IMAGES)
        return AutoencoderTask(trained, losses, train, validation, examples, spec, options.loop, device)

    def companions(self) -> tuple[str, ...]:
        """The report of reconstructions."""
        return (REPORT,)

    def report(self, options: EncodeImages, data: Prepared, task: Task[Any]) -> None:
        """Say how good the saved model is, on held-out images where there are any.

        Writes reconstruction.png and reconstruction.json.
        """
        if not isinstance(task, AutoencoderTask):
            raise TypeError("the task of an autoencoder")
        split = "validation" if len(task.validation) else "train"
        images = task.validation if split == "validation" else task.data
        autoencoder = load_trained(options.out / "model").to(task.device).eval()
        rows = images.spread(REPORTED_IMAGES)
        with progress("reconstructing", len(rows), "images") as advance:
            quality = reconstruction_quality(autoencoder, images, rows, task.device, advance)
        note = f"after {options.loop.steps} steps"
        save_comparison(options.out / PICTURE, autoencoder, _chosen(images, SHOWN_IMAGES), task.device, note)
        metrics = {name: entry.to_dict() for name, entry in quality.items()}
        values: dict[str, Any] = {"split": split, "steps": options.loop.steps, "modalities": metrics}
        if isinstance(autoencoder, Tokenizer):
            values["codebook"] = codes_used(autoencoder, images, rows, task.device)
            used, even = values["codebook"].values()
            say(f"{used:.0%} of {autoencoder.codes} codes are used; perplexity {even:.0f}")
            if even < COLLAPSED:
                say("The codebook has collapsed: nearly all images have the same tokens, which generate nothing.")
        write_json(options.out / REPORT, values)
        kind = "held-out" if split == "validation" else "training"
        for name, entry in quality.items():
            say(
                f"reconstruction of {entry.n} {kind} images, {name}: PSNR {entry.psnr:.2f} dB, SSIM {entry.ssim:.3f},"
                f" mean absolute difference {entry.l1:.4f} (values from 0 to 1)"
            )


def _images(options: EncodeImages, source: ImageSource, verbose: bool) -> ImageData:

    images, usable = cached_usable_images(source, options.cache_folder, options.skip_bad, verbose)
    return ImageData(images, [str(sample.condition.modality) for sample in source.samples], usable)


def _chosen(data: ImageData, number: int) -> "NDArray[np.float32]":
    """Up to `number` images, of every modality."""

    positions = spread(data.usable, [data.modalities[row] for row in data.usable], number)
    return data.take([data.usable[position] for position in positions])
