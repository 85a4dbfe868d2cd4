"""Continuing from a trained token generator with other data: another image size or tokenizer, further modalities."""

from dataclasses import asdict, replace

from medloom.core.errors import UserError
from medloom.core.spec import ImageSpec
from medloom.generators.tokens.generator import TokenGenerator
from medloom.generators.tokens.model import TokenModel
from medloom.generators.training_facts import TrainingFacts
from medloom.networks.token_transformer import TokenTransformerConfig
from medloom.networks.tokenizer import Tokenizer

# What a training may choose anew.
FREE = ("grid", "dropout", "gradient_checkpointing")


def extend_generator(
    generator: TokenGenerator,
    spec: ImageSpec,
    facts: TrainingFacts,
    tokenizer: Tokenizer,
    config: TokenTransformerConfig,
) -> TokenGenerator:
    """The generator on another grid of tokens, with further modalities and columns; what it knew keeps its weights.

    Args:
        generator: as trained.
        spec: the image space to continue in; intensity maps of modalities that it lacks are kept.
        facts: all modalities and views of the new manifest, and the columns that are new to the generator.
        tokenizer: of as many codes; it should have started from the generator's own, so that they mean the same.
        config: the transformer's shape as the options have it, on the new grid.

    Raises:
        UserError: a tokenizer of another number of codes or axes, or options of another shape.
    """
    known = generator.model.network.config
    if (tokenizer.codes, len(config.grid)) != (known.codes, len(known.grid)):
        raise UserError(
            f"--from: the run's tokens are {known.codes} codes on {len(known.grid)} axes, those of --tokenizer"
            f" {tokenizer.codes} on {len(config.grid)}; give its own tokenizer, or one trained from it."
        )
    before, now = asdict(known), asdict(config)
    changed = [name for name in now if name not in FREE and before[name] != now[name]]
    if other := [f"{name} was {before[name]}, now {now[name]}" for name in changed]:
        raise UserError(f"--from: the run's transformer is another one: {'; '.join(other)}; give its own options.")
    model = generator.model
    condition = model.condition.extended(facts.modalities, facts.views, facts.columns)
    grown = TokenModel(model.text, condition, model.network.on_grid(config), model.mask_classes)
    reads = generator.modality_as, generator.train_text, generator.reads_text
    spec = replace(spec, intensity={**generator.spec.intensity, **spec.intensity})
    extended = TokenGenerator(spec, grown, tokenizer, *reads)
    extended.masks = generator.masks
    return extended
