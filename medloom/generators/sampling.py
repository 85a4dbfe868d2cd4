"""What a request says besides condition and seed: how to sample, what an edit starts from, how images are framed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import TypeVar, get_args, get_type_hints

from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited
from medloom.core.lookup import look_up
from medloom.core.options import setting
from medloom.core.spec import ImageSpec
from medloom.core.types import IMAGE_FORMS, PARTS, ImagePart, is_image_part

STARTS = ("noise", "prior", "inversion")
# Regions of an edit that are no label map: where the instruction makes a difference, and everywhere.
AUTO, EVERYWHERE = "auto", "everywhere"
OVERLAP = 0.25
GUIDANCE_SCHEDULES = ("constant", "linear")
PRECISIONS = ("fp32", "bf16")
# What an option of a type may be given as, and in words.
VALUES: Mapping[type, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
    bool: (bool, "True or False"),
}
# Label smoothing in the training of tokens.
SMOOTHING = 0.1


@dataclass(frozen=True)
class SamplingOptions:
    """How images are sampled; each family has its own options and defaults. None is the family's default.

    Attributes:
        steps: steps of the sampler.
        guidance: scale for all parts of the condition; 1 is none.
        guidance_by_part: scales of single parts (mask, prior, modality, table, text) that replace `guidance`.
        negative: text that replaces the empty text, or None.
    """

    steps: int | None = None
    guidance: float | None = None
    guidance_by_part: Mapping[str, float] = field(default_factory=dict)
    negative: str | None = None


Sampling = TypeVar("Sampling", bound=SamplingOptions)


@dataclass(frozen=True)
class SamplingSettings:
    """How a run generates images unless asked otherwise: in its samples, by which it is judged, and after training.

    Attributes:
        steps: steps of the sampler; none is the family's number, or that of the run that is continued.
        guidance: scales as `--guidance` takes them, e.g. [1, text=7.5]; none are the family's (1 of an editor), or that
            run's.
    """

    steps: int | None = limited(None, at_least=1, setting=True)
    guidance: tuple[str, ...] = setting(())

    def __post_init__(self) -> None:
        check_limits(self, "sampling")

    def applied(self, sampling: Sampling) -> Sampling:
        """The sampling with these settings, where they are given.

        Raises:
            UserError: scales that cannot be read.
        """
        own = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "guidance"}
        given = {name: value for name, value in own.items() if value is not None}
        return guided(replace(sampling, **given), self.guidance, "the setting sampling.guidance")


@dataclass(frozen=True)
class DiffusionSamplingSettings(SamplingSettings):
    """How a diffusion run generates images unless asked otherwise.

    Attributes:
        steps: steps of the sampler; none is 20, or the number of the run that is continued.
        guidance: scales as `--guidance` takes them, e.g. [1, text=7.5]; none are 2 for all parts (1 of an editor), or
            that run's.
        sampler: name of the sampler; none is the one that fits the model, or that run's.
    """

    sampler: str | None = setting(None)


@dataclass(frozen=True)
class DiffusionSampling(SamplingOptions):
    """How images are sampled by diffusion.

    Attributes:
        steps: steps of the sampler.
        guidance: scale for all parts of the condition; 1 is none.
        guidance_by_part: scales of single parts (mask, prior, modality, table, text) that replace `guidance`.
        negative: text that replaces the empty text, or None.
        sampler: name, or None for the one that fits the model.

    Examples:
        >>> import medloom
        >>> from medloom.generators.sampling import DiffusionSampling
        >>> model = medloom.load("runs/mm")
        >>> condition = medloom.Condition("Normal chest.", "CXR")
        >>> sampling = DiffusionSampling(steps=5, guidance=1.0)
        >>> images = model.generate(condition, seed=0, sampling=sampling)
        >>> images.pixels.shape
        (1, 1, 16, 16)
    """

    steps: int = 20
    guidance: float = 2.0
    sampler: str | None = None


@dataclass(frozen=True)
class GANSampling(SamplingOptions):
    """What may be asked of a sampler, which a GAN does not have: all of it is refused."""

    @property
    def asked(self) -> list[str]:
        """The options that were asked for, as the user writes them."""
        given = {"--steps": self.steps, "--guidance": self.guidance, "--negative": self.negative}
        alone = [name for name, value in given.items() if value is not None]
        return alone + [f"--guidance {part}={scale:g}" for part, scale in self.guidance_by_part.items()]


@dataclass(frozen=True)
class TokenSampling(SamplingOptions):
    """How images are decoded; see `medloom.processes.token_decoding.DecodingOptions`.

    Attributes:
        steps: parallel steps, K.
        guidance: scale for all parts of the condition; 1 is none.
        guidance_by_part: scales of single parts, instead of `guidance`.
        guidance_schedule: constant, or linear (from none in the first step to the whole scale in the last).
        negative: text that replaces the empty text, or None.
        temperature: of the draws.
        annealing: fraction by which the temperature falls over the steps.
        top_k: most likely codes that a draw chooses from; 0 for all.
        top_p: least probability of the codes that a draw chooses from; 1 for all. Less leaves out what is small and may
            lie anywhere, a nodule say, which is unlikely at each single place.
        cutoff: codes less likely than this fraction of a uniform distribution, 1 / codes, before guidance or after it,
            are not drawn; 0 for none, 0.3 by default. What label smoothing gives to every code should not be drawn, nor
            what guidance makes of it. Where draws are scored again by changed weights, take 0: a code that is left out
            has no probability.
        remasking: temperature of the noise by which tokens are masked again.
        mask_schedule: fraction of tokens that stay masked: cosine, linear, square or root.
        precision: of the transformer: fp32, in which an image does not depend on its batch, or bf16, which is
            faster where the device computes in it.

    Examples:
        >>> import medloom
        >>> from medloom.generators.sampling import TokenSampling
        >>> model = medloom.load("runs/tokens")
        >>> condition = medloom.Condition("Normal chest.", "CXR")
        >>> sampling = TokenSampling(steps=4, guidance=1.0)
        >>> images = model.generate(condition, seed=0, sampling=sampling)
        >>> images.pixels.shape
        (1, 1, 16, 16)
    """

    steps: int = 8
    guidance: float = 2.0
    guidance_schedule: str = limited("constant", words=GUIDANCE_SCHEDULES)
    temperature: float = 1.0
    annealing: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    cutoff: float = 3 * SMOOTHING
    remasking: float = 4.5
    mask_schedule: str = "cosine"
    precision: str = limited("fp32", words=PRECISIONS)

    def check(self) -> None:
        """Refuse a schedule or precision that is not known.

        Raises:
            UserError: says what is allowed.
        """
        check_limits(self, form="--sampling {}={}")


@dataclass(frozen=True)
class Edit:
    """What an editor starts from, and where it may change the image.

    Attributes:
        start: noise, prior (the prior image, noised; of tokens some of its tokens) or inversion (the noise that leads
            to the prior image).
        strength: fraction of the way to noise at which `prior` and `inversion` start, or of the tokens that are masked;
            lower keeps more of the prior image.
        region: where the image may change: the labels above 0 of a label map, `auto` (where the instruction makes a
            difference to the one for no change, found by the model) or `everywhere`. None is `auto` in `edit` by a
            model that learnt an instruction for no change, and else everywhere.
        residual: of tokens: keep what the tokenizer smooths away, by adding to the prior image only what decoding
            changed.

    Examples:
        >>> import medloom
        >>> editor = medloom.load("runs/edit")
        >>> half = medloom.Edit(start="prior", strength=0.5)
        >>> edited = editor.edit("images/1.png", "The effusion has resolved.", edit=half)
        >>> edited.pixels.shape
        (1, 1, 16, 16)
    """

    start: str = limited("noise", words=STARTS)
    strength: float = limited(1.0, above=0, at_most=1)
    region: ImagePart | str | None = None
    residual: bool = False

    def __post_init__(self) -> None:
        check_limits(self)
        if isinstance(self.region, str) and self.region not in (AUTO, EVERYWHERE):
            object.__setattr__(self, "region", Path(self.region))
        if self.region is not None and not isinstance(self.region, str) and not is_image_part(self.region):
            raise UserError(f"Edit: region is {self.region!r}; give {AUTO}, {EVERYWHERE}, {IMAGE_FORMS}.")
        if self.start == "noise" and self.strength != 1:
            raise UserError("--strength goes with --start prior or inversion; sampling from noise has all of it.")

    @property
    def finds_region(self) -> bool:
        """Whether the model finds the region."""
        return isinstance(self.region, str) and self.region == AUTO

    @property
    def label_map(self) -> ImagePart | None:
        """The region, where it is a label map."""
        return None if isinstance(self.region, str) else self.region

    def require_prior(self, parts: tuple[str, ...]) -> None:
        """Refuse an edit by a model that takes no prior image.

        Raises:
            UserError: names the option.
        """
        asked = {
            f"--start {self.start}": self.start != "noise",
            "--region": self.finds_region or self.label_map is not None,
            "--residual": self.residual,
        }
        if "prior" not in parts and (given := [option for option, value in asked.items() if value]):
            raise UserError(f"{given[0]}: the model takes no prior image; leave it out.")


@dataclass(frozen=True)
class Framing:
    """How a model that was trained on patches generates an image.

    Attributes:
        crops: one patch an image, at a position of the mask that is a function of the seed, instead of a whole image.
        overlap: least fraction of a window's axis that neighbouring windows of a whole image share.
        windows: windows at a time.
    """

    crops: bool = False
    overlap: float = limited(OVERLAP, at_least=0, below=1, setting=True)
    windows: int = limited(2, at_least=1, setting=True)

    def __post_init__(self) -> None:
        check_limits(self)

    def check(self, spec: ImageSpec) -> None:
        """Refuse crops of a model of whole images.

        Raises:
            UserError: says what to do.
        """
        if self.crops and not spec.patch:
            raise UserError(
                "--crops: the model was trained on whole images and generates such already; leave it out, or train with"
                " --patch."
            )


FROM_NOISE, WHOLE = Edit(), Framing()


def require_kinds(sampling: SamplingOptions) -> None:
    """Refuse values of another type than an option's: a fraction or a text for a number of steps.

    Raises:
        UserError: names the option and says what to give.
    """
    for name, hint in get_type_hints(type(sampling)).items():
        value, kinds = getattr(sampling, name), [kind for kind in (get_args(hint) or (hint,)) if kind in VALUES]
        if name == "guidance_by_part" or not kinds or (value is None and NoneType in get_args(hint)):
            continue
        allowed, words = VALUES[kinds[0]]
        if not isinstance(value, allowed) or isinstance(value, bool) is not (kinds[0] is bool):
            raise UserError(f"{type(sampling).__name__}: {name} is {value!r}; give {words}.")
    if not isinstance(sampling.guidance_by_part, Mapping):
        raise UserError(
            f"{type(sampling).__name__}: guidance_by_part is {sampling.guidance_by_part!r}; give scales by part, as"
            " {'text': 7.5}."
        )


def guided(sampling: Sampling, words: Sequence[str], option: str = "--guidance") -> Sampling:
    """The sampling with other guidance scales: words are a number for all parts, or PART=NUMBER.

    Whoever names a scale says all of them: none of a single part remains of the sampling's own.

    Raises:
        UserError: neither a number nor PART=NUMBER, an unknown part, or two scales of one part.
    """
    common: float | None = None
    parts: dict[str, float] = {}
    for word in words:
        part, equals, value = word.rpartition("=")
        try:
            scale = float(value)
        except ValueError:
            raise UserError(f"{option} {word}: give a number, or PART=NUMBER, e.g. text=7.5.") from None
        if not equals and common is None:
            common = scale
        elif equals and part not in parts:
            look_up(dict.fromkeys(PARTS), part, f"part of the condition in {option}")
            parts[part] = scale
        else:
            raise UserError(f"{option} {' '.join(words)}: {part or 'the whole condition'} stands twice.")
    if not words:
        return sampling
    return replace(sampling, guidance=sampling.guidance if common is None else common, guidance_by_part=parts)
