"""Options of a token generator: its network, what it is trained for, and how images are decoded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from medloom.core.choices import FUSIONS, POSITIONS
from medloom.core.errors import UserError

MASKS = ("none", "channels")
PRIORS = ("none", "channels")
DEFAULT_STEPS, DEFAULT_GUIDANCE = 8, 2.0
GUIDANCE_SCHEDULES = ("constant", "linear")
PRECISIONS = ("fp32", "bf16")
SMOOTHING = 0.1


@dataclass(frozen=True)
class NetworkOptions:
    """The transformer.

    Attributes:
        width: of its features.
        layers: of self-attention, cross-attention and a network of two layers.
        heads: of each attention.
        expansion: inner width of that network over `width`.
        dropout: of features in training.
        positions: learned (a vector for each place of each axis) or rotary.
        fusion: how text, modality and table reach it: cross-attention, affine or none.
        mask: how a segmentation mask reaches it: none or channels.
        mask_classes: labels in the masks, background left out.
        prior: how an earlier image reaches it: none or channels (its tokens).
        condition_width: width of context tokens.
        region_styles: let text and table fill the regions of the mask, or the whole image, also growing along each
            axis, by which a finding and the side that is told find their place sooner; off where nothing is fused.
        local_kernel: tokens along each side of what a convolution of each layer sees, an odd number, by which what
            lies side by side fits together sooner; 0 for none.
        gradient_checkpointing: compute activations again in the backward pass to save memory.
    """

    width: int = 256
    layers: int = 6
    heads: int = 4
    expansion: int = 4
    dropout: float = 0.0
    positions: str = "learned"
    fusion: str = "cross-attention"
    mask: str = "none"
    mask_classes: tuple[int, ...] = ()
    prior: str = "none"
    condition_width: int = 256
    region_styles: bool = True
    local_kernel: int = 3
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        allowed = {"fusion": FUSIONS, "positions": POSITIONS, "mask": MASKS, "prior": PRIORS}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise UserError(f"--network.{name} {getattr(self, name)}: allowed are {', '.join(values)}.")
        for name in ("width", "layers", "heads", "expansion", "condition_width"):
            if getattr(self, name) < 1:
                raise UserError(f"--network.{name.replace('_', '-')} {getattr(self, name)}: it is at least 1.")
        if self.local_kernel < 0 or (self.local_kernel and self.local_kernel % 2 == 0):
            raise UserError(f"--network.local-kernel {self.local_kernel}: an odd number of tokens, or 0 for none.")
        if not 0 <= self.dropout < 1:
            raise UserError(f"--network.dropout {self.dropout}: a share from 0 to below 1.")
        if self.mask != "none" and not self.mask_classes:
            raise UserError("--network.mask needs --network.mask-classes, the labels in the masks (e.g. 255).")


@dataclass(frozen=True)
class TokenOptions:
    """What the network is trained for.

    Attributes:
        schedule: of the share of masked tokens: cosine, linear, square or root.
        smoothing: label smoothing of the cross-entropy.
    """

    schedule: str = "cosine"
    smoothing: float = SMOOTHING

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UserError(f"--tokens.smoothing {self.smoothing}: a share from 0 to below 1.")


@dataclass(frozen=True)
class SamplingOptions:
    """How images are decoded; see `medloom.processes.token_decoding.DecodingOptions`.

    Attributes:
        steps: parallel steps, K.
        guidance: scale for all parts of the condition; 1 is none.
        guidance_by_part: scales of single parts, in place of `guidance`.
        guidance_schedule: constant, or linear (from none in the first step to the whole scale in the last).
        negative: text that takes the place of the empty text, or None.
        temperature: of the draws.
        annealing: share of the temperature that is taken away over the steps.
        top_k: most likely codes that a draw chooses from; 0 for all.
        top_p: least probability of the codes that a draw chooses from; 1 for all. Less leaves out what is small and may
            lie anywhere, a nodule say, which is unlikely at each single place.
        cutoff: codes less likely than this share of an even chance, 1 / codes, before guidance or after it, are not
            drawn; 0 for none. What label smoothing gives to every code should not be drawn, nor what guidance makes of
            it. Where draws are scored again by changed weights, take 0: a code that is left out has no probability.
        remasking: temperature of the noise by which tokens are masked again.
        mask_schedule: share of tokens that stay masked: cosine, linear, square or root.
        precision: of the transformer: fp32, in which an image does not depend on its batch, or bf16, which is faster.
        start: what decoding starts from: noise (all tokens masked) or prior (some of the earlier image's tokens).
        strength: share of the tokens that are masked where it starts from the earlier image.
        residual: the edit is the earlier image and what decoding changed of its tokens, so that what the tokenizer
            smooths away stays; else it is the decoded image.
    """

    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    guidance_by_part: Mapping[str, float] = field(default_factory=dict)
    guidance_schedule: str = "constant"
    negative: str | None = None
    temperature: float = 1.0
    annealing: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    cutoff: float = 3 * SMOOTHING
    remasking: float = 4.5
    mask_schedule: str = "cosine"
    precision: str = "fp32"
    start: str = "noise"
    strength: float = 1.0
    residual: bool = False

    def check(self) -> None:
        """Refuse a schedule, precision or start that is not known.

        Raises:
            UserError: says what is allowed.
        """
        if self.guidance_schedule not in GUIDANCE_SCHEDULES:
            allowed = ", ".join(GUIDANCE_SCHEDULES)
            raise UserError(f"--guidance-schedule {self.guidance_schedule}: allowed are {allowed}.")
        if self.precision not in PRECISIONS:
            raise UserError(f"--precision {self.precision}: allowed are {', '.join(PRECISIONS)}.")
        if self.start == "inversion":
            raise UserError("--start inversion: tokens have no noise to invert; give noise or prior.")
        if self.start not in ("noise", "prior"):
            raise UserError(f"--start {self.start}: allowed are noise and prior.")
        if not (0 < self.strength <= 1 and math.isfinite(self.strength)):
            raise UserError(f"--strength {self.strength}: a share of the tokens, above 0 and at most 1.")
        if self.start == "noise" and self.strength != 1:
            raise UserError("--strength goes with --start prior; decoding from noise has all tokens masked.")
