"""What the training rows hold that a generator of any family is built from, and the encoders that are built from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.core.mask_spec import MaskSpec, numbered
from medloom.core.progress import say
from medloom.core.table_column import TableColumn
from medloom.data.dataset import ImageSource
from medloom.data.identifying_columns import rare_note
from medloom.data.identifying_texts import identifying_notes, shared_words
from medloom.data.masks import hidden_classes, mask_classes_of, named_classes, read_classes
from medloom.data.padding import TrainingExtents
from medloom.generators.options import GeneratorOptions, TextOptions
from medloom.generators.preparation import Prepared
from medloom.networks.text import LOCAL

if TYPE_CHECKING:
    from medloom.networks.conditioning import ConditionConfig
    from medloom.networks.text import TextEncoder

from medloom.generators.leakage import refuse_seen_parent
from medloom.generators.run_folder import find_run, open_run


@dataclass(frozen=True)
class TrainingFacts:
    """What conditions the training images.

    Attributes:
        corpus: texts that a local tokenizer is trained on: `modality: text`, or whichever of the two there is, with the
            words alone that several patients share.
        modalities: their names, sorted.
        views: their names, sorted.
        columns: of the clinical table.
        masks: the classes of the masks; empty for a model that takes none.
        has_text: whether any image has a text.
        extents: what part of the model's frame the images fill; None where nobody looked.
    """

    corpus: Sequence[str]
    modalities: Sequence[str] = ()
    views: Sequence[str] = ()
    columns: Sequence[TableColumn] = ()
    masks: MaskSpec = field(default_factory=MaskSpec)
    has_text: bool = True
    extents: TrainingExtents | None = None

    @property
    def padded(self) -> bool:
        """Whether any image is padded."""
        return self.extents is not None and self.extents.padded > 0


def read_facts(options: GeneratorOptions, data: Prepared, masks: MaskSpec, verbose: bool) -> TrainingFacts:
    """What the training rows hold; says how many lack a text, or a mask of a model that takes masks.

    Raises:
        UserError: no row has a text where the task needs texts; see `measure_columns` too.
    """
    conditions = [sample.condition for sample in data.train.samples]
    has_text = any(condition.text for condition in conditions)
    if not has_text and options.needs_text:
        raise UserError(
            f"{options.data}: no row has a text or an instruction; name the column with --columns text=NAME, or train"
            " without texts with --columns text=none."
        )
    for part in ("mask", "text") if masks.visible else ("text",):
        without = sum(not getattr(condition, part) for condition in conditions)
        if verbose and without:
            say(f"{without} of {len(conditions)} training images have no {part}; they are used without it.")
    if verbose and options.text.encoder == LOCAL:
        for note in identifying_notes(data.train.samples):
            say(note)
    columns = _columns(options, data)
    if verbose and (rare := rare_note(columns, data.train.samples)):
        say(rare)
    corpus = [": ".join(filter(None, (condition.modality, condition.text))) for condition in conditions]
    return TrainingFacts(
        shared_words(corpus, [sample.patient for sample in data.train.samples]),
        sorted({condition.modality for condition in conditions if condition.modality}),
        sorted({condition.view for condition in conditions if condition.view}),
        columns,
        masks,
        has_text,
        _extents(data.train),
    )


def _extents(source: ImageSource) -> TrainingExtents:
    """What part of the model's frame the images of a source fill."""
    names = [str(sample.condition.modality) for sample in source.samples]
    extents = map(tuple, source.contents().extents.tolist())
    return TrainingExtents.of(source.spec.size, zip(names, extents, strict=True))


def read_masks(options: GeneratorOptions, data: Prepared, given: Sequence[int], verbose: bool) -> MaskSpec:
    """The classes of the masks: from --classes, else the given labels, else those that the masks have.

    Args:
        options: how masks are read.
        data: the rows that are trained on and validated with.
        given: labels that the user named (network.mask_classes), or none.
        verbose: whether to show progress.

    Raises:
        UserError: see `read_classes`, `mask_classes_of` and `hidden_classes`; two lists of classes; or no class left.
    """
    if options.classes is not None and given:
        raise UserError("--classes and network.mask_classes both list the mask classes; leave one out.")
    if getattr(options, "flip", False) and options.classes is None:
        raise UserError("--flip needs --classes: the names of mask classes say which sides change in a mirror image.")
    if options.classes is not None:
        names = read_classes(options.classes)
    else:
        samples = [*data.train.samples, *data.validation.samples]
        names = ({} if given else named_classes(samples)) or numbered(mask_classes_of(samples, given, verbose))
    known = MaskSpec(names, resample=options.resample_masks)
    masks = replace(known, hidden=hidden_classes(options.hide_classes, known))
    if not masks.visible:
        raise UserError("--hide-classes leaves no mask class that the model sees; leave one in.")
    return masks


def build_text_encoder(corpus: Sequence[str], text: TextOptions, seed: int, pad: str = "trim") -> "TextEncoder":
    """A text encoder as the options say; a local one has fresh weights.

    Args:
        corpus: texts that a local tokenizer is trained on.
        text: which encoder.
        seed: of fresh weights.
        pad: see TextEncoder.

    Raises:
        UserError: an encoder that cannot be loaded.
    """
    from medloom.core.seeds import initial_weights
    from medloom.networks.text import LOCAL, TextEncoder, load_text_encoder, make_text_model, train_tokenizer

    if text.encoder != LOCAL:
        return load_text_encoder(text.encoder, text.max_tokens, pad)
    with initial_weights(seed, "text"):
        tokenizer = train_tokenizer(corpus, text.vocabulary, text.max_tokens)
        model = make_text_model(tokenizer, text.width, text.layers, text.max_tokens)
    return TextEncoder(tokenizer, model, text.max_tokens, pad)


def condition_config(facts: TrainingFacts, text: TextOptions, encoder_width: int, width: int) -> "ConditionConfig":
    """The shape of the condition encoder for some facts; `width` is that of context tokens."""
    from medloom.networks.conditioning import ConditionConfig
    from medloom.networks.text import LOCAL, pooled_width_of

    names = (tuple(facts.modalities), tuple(facts.views))
    # A local encoder learns sooner when its tokens are summed too.
    local = text.encoder == LOCAL
    return ConditionConfig(
        encoder_width,
        width,
        *names,
        sum_tokens=local,
        columns=tuple(facts.columns),
        pooled_width=None if local else pooled_width_of(text.encoder),
    )


def fused_parts(facts: TrainingFacts, text: TextOptions, fusion: str, by_text: bool = False) -> Mapping[str, str]:
    """How text, modality and table reach a network by the support table: part -> fusion."""
    parts: dict[str, str] = {}
    if fusion != "none":
        parts |= {"text": fusion} if facts.has_text else {}
        parts["modality"] = "text" if by_text or text.modality_as == "text" else fusion
    if facts.columns:
        parts["table"] = fusion
    return parts


def _columns(options: GeneratorOptions, data: Prepared) -> Sequence[TableColumn]:
    """The columns of --table, as the training rows have them.

    Raises:
        UserError: see `measure_columns`.
    """
    from medloom.data.manifest import template_of
    from medloom.data.prompts import read_template
    from medloom.data.table_columns import measure_columns

    if not options.table:
        return ()
    beside = template_of(Path(options.data))
    template = read_template(beside) if beside is not None else None
    return measure_columns(options.table, data.train.samples, template, str(options.data))


def find_text_encoder(text: TextOptions, data: Prepared) -> TextOptions:
    """The options of a generator's text, with the model's folder where `encoder` names a run.

    Args:
        text: the options.
        data: the generator's data.

    Raises:
        UserError: a run of another kind, one without a model, or one trained on patients of the data's test set.
    """
    path = Path(text.encoder)
    if find_run(path) is None:
        return text
    found = open_run(path, ("text-encoder",), "--text.encoder")
    refuse_seen_parent(found, data, "text encoder")
    return replace(text, encoder=str(found.model))
