"""The GAN family, as the training program sees it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.generators.family import Origin
from medloom.generators.gan.build import build_adversary, build_generator, build_inverse
from medloom.generators.gan.generator import GANGenerator
from medloom.generators.gan.objective import GANObjective
from medloom.generators.gan.options import MaskToImageGAN
from medloom.generators.gan.pairing import Paired, Pairing, Unpaired
from medloom.generators.gan.task import GANTask
from medloom.generators.generator_family import GeneratorFamily
from medloom.generators.preparation import Prepared
from medloom.generators.training_facts import TrainingFacts, find_text_encoder
from medloom.generators.training_record import TrainingRecord
from medloom.generators.unused_options import Unused

if TYPE_CHECKING:
    from accelerate import Accelerator


OF_ADVERSARY = (
    "gan.adversarial_weight", "gan.r1", "gan.r1_every", "gan.pool", "gan.discriminator_learning_rate", "gan.scales",
    "gan.width", "gan.layers", "gan.norm",
)  # fmt: skip


class GANFamily(GeneratorFamily[MaskToImageGAN, "GANGenerator", None]):
    """Conditional GANs: an image from a mask, a text and noise in one step."""

    name = "gan"
    generator = GANGenerator

    def checked(self, options: MaskToImageGAN) -> MaskToImageGAN:
        """Refuse options that exclude each other."""
        if options.loop.compile and options.gan.adversarial and options.gan.r1:
            raise UserError("--loop.compile cannot follow the slope of R1; leave it out, or set gan.r1 0.")
        return options

    def unused(self, options: MaskToImageGAN, origin: Origin) -> Sequence[Unused]:
        """See Family."""
        found = list(super().unused(options, origin))
        if not options.gan.unpaired:
            found.append(Unused(("gan.mask_weight",), "it is of --gan.unpaired"))
        if not options.gan.adversarial:
            found.append(Unused(OF_ADVERSARY, "there is no adversary (--gan.adversary none)"))
        if origin.model is None:
            other = "network.depth" if options.network.kind == "resnet" else "network.blocks"
            found.append(Unused((other,), f"a {options.network.kind} has none"))
        return found

    def mask_labels(self, options: MaskToImageGAN) -> tuple[int, ...] | None:
        """See GeneratorFamily."""
        return options.network.mask_classes

    def prepare_space(self, options: MaskToImageGAN, data: Prepared, origin: Origin) -> tuple[Prepared, None]:
        """A GAN generates pixels."""
        return data, None

    def fresh(
        self, options: MaskToImageGAN, data: Prepared, facts: TrainingFacts, coder: None, origin: Origin
    ) -> GANGenerator:
        """See GeneratorFamily."""
        text = find_text_encoder(options.text, data)
        return build_generator(data.spec, facts, options.network, text, options.loop.seed)

    def continued(
        self, options: MaskToImageGAN, data: Prepared, facts: TrainingFacts, coder: None, known: GANGenerator
    ) -> GANGenerator:
        """The generator with further modalities and views; its adversary starts anew."""
        if known.model.condition is not None:
            known.model.condition = known.model.condition.extended(facts.modalities, facts.views)
        known.spec = data.spec
        return known

    def record(self, options: MaskToImageGAN, data: Prepared, trained: GANGenerator) -> TrainingRecord:
        """See GeneratorFamily; unpaired, each image is generated from the mask of another row."""
        record = super().record(options, data, trained)
        return record.with_all("mask") if options.gan.unpaired else record

    def own_components(self, trained: GANGenerator) -> dict[str, Any]:
        """See GeneratorFamily."""
        return {"network": trained.model.network}

    def task(
        self, options: MaskToImageGAN, data: Prepared, trained: GANGenerator, accelerator: "Accelerator"
    ) -> GANTask:
        """See Family."""
        seed, device = options.loop.seed, accelerator.device
        adversary = build_adversary(trained, options.gan, seed, device)
        pairing: Pairing = Paired(trained, seed)
        if options.gan.unpaired:
            pairing = Unpaired(trained, seed, build_inverse(trained, options.network, seed))
        pairing.module.to(device)
        train, validation, render = self.caches(options, data, trained, accelerator)
        return GANTask(
            trained,
            pairing,
            GANObjective(options.gan, adversary),
            train,
            validation,
            options.loop,
            options.text.dropout,
            device,
            render,
            options.text.learning_rate_factor,
        )
