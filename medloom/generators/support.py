"""The support table: what errors, tests and documentation read. What it says is supported is tested."""

from dataclasses import dataclass

from medloom.core.errors import UserError


@dataclass(frozen=True)
class SupportRow:
    """One combination.

    Attributes:
        family: diffusion, gan or tokens.
        network: of diffusion: native (the N-D U-Net) or exportable (diffusers' U-Net); of gan: resnet or unet; of
            tokens: transformer.
        part: part of the condition.
        fusion: how it reaches the network.
        dims: 2 or 3.
        supported: whether it can be trained.
        instead: where it is not, what to do.
    """

    family: str
    network: str
    part: str
    fusion: str
    dims: int
    supported: bool = True
    instead: str = ""


def _native(part: str, fusion: str) -> list[SupportRow]:
    return [SupportRow("diffusion", "native", part, fusion, dims) for dims in (2, 3)]


def _exportable(part: str, fusion: str, supported: bool, instead: str = "") -> SupportRow:
    return SupportRow("diffusion", "exportable", part, fusion, 2, supported, instead)


def _gan() -> list[SupportRow]:
    ways = [(part, fusion) for part in ("text", "modality", "table") for fusion in ("cross-attention", "affine")]
    ways += [("modality", "text"), ("mask", "channels"), ("mask", "spade")]
    networks = [(network, dims) for network in ("resnet", "unet") for dims in (2, 3)]
    rows = [SupportRow("gan", network, part, fusion, dims) for network, dims in networks for part, fusion in ways]
    rows += [SupportRow("gan", network, "table", "none", dims, False, _FUSED) for network, dims in networks]
    return rows + [
        SupportRow("gan", network, "prior", "channels", dims, False, _DIFFUSION) for network, dims in networks
    ]


def _tokens() -> list[SupportRow]:
    ways = [(part, fusion) for part in ("text", "modality", "table") for fusion in ("cross-attention", "affine")]
    ways += [("modality", "text"), ("mask", "channels"), ("prior", "channels")]
    rows = [SupportRow("tokens", "transformer", part, fusion, dims) for dims in (2, 3) for part, fusion in ways]
    return rows + [SupportRow("tokens", "transformer", "table", "none", dims, False, _FUSED) for dims in (2, 3)]


_FUSED = "condition on the columns with --network.fusion affine or cross-attention, or leave --table out"
_DIFFUSION = "train an editor of the diffusion family with `medloom train edit`"
_NATIVE = "use the native network (leave --network.exportable and --base out)"
_WORDED = "word the columns as text with `medloom data prompts`, or " + _NATIVE
SUPPORT: tuple[SupportRow, ...] = (
    *_native("text", "cross-attention"),
    *_native("text", "affine"),
    *_native("modality", "cross-attention"),
    *_native("modality", "affine"),
    *_native("modality", "text"),
    *_native("table", "cross-attention"),
    *_native("table", "affine"),
    *_native("mask", "channels"),
    *_native("mask", "spade"),
    *_native("prior", "channels"),
    _exportable("text", "cross-attention", True),
    _exportable("modality", "text", True),
    _exportable("prior", "channels", True),
    _exportable("text", "affine", False, _NATIVE),
    _exportable("modality", "cross-attention", False, _NATIVE),
    _exportable("modality", "affine", False, _NATIVE),
    _exportable("table", "cross-attention", False, _WORDED),
    _exportable("mask", "channels", False, _NATIVE),
    _exportable("mask", "spade", False, _NATIVE),
    SupportRow("diffusion", "exportable", "text", "cross-attention", 3, False, _NATIVE),
    *_gan(),
    *_tokens(),
)


def require_support(family: str, network: str, part: str, fusion: str, dims: int) -> None:
    """Refuse a combination that the table does not support.

    Raises:
        UserError: says what to do instead.
    """
    wanted = (family, network, part, fusion, dims)
    for row in SUPPORT:
        if (row.family, row.network, row.part, row.fusion, row.dims) == wanted:
            if row.supported:
                return
            raise UserError(f"{part} by {fusion} in {dims}-D is not supported by the {network} network: {row.instead}.")
    raise UserError(f"{part} by {fusion} in {dims}-D is not supported by the {network} network of {family}.")


def refuse_part(family: str, part: str) -> None:
    """Refuse a part of the condition that a model was not trained with, in the words of the support table.

    Raises:
        UserError: always; says how such a model is trained, or that its family has none.
    """
    rows = [row for row in SUPPORT if row.family == family and row.part == part]
    ways = sorted({row.fusion for row in rows if row.supported})
    if ways:
        raise UserError(
            f"the model was trained without a {part}; leave it out, or train with --network.{part} {' or '.join(ways)}."
        )
    instead = f": {rows[0].instead}" if rows else ""
    raise UserError(f"{part} is not supported by the {family} family{instead}.")


def as_markdown() -> str:
    """The table for the documentation."""
    lines = ["| family | network | part | fusion | dims | supported |", "|---|---|---|---|---|---|"]
    for row in SUPPORT:
        answer = "yes" if row.supported else f"no: {row.instead}"
        lines.append(f"| {row.family} | {row.network} | {row.part} | {row.fusion} | {row.dims} | {answer} |")
    return "\n".join(lines)
