"""The support table: what errors, tests and documentation read. What it says is supported is tested."""

from dataclasses import dataclass

from medloom.core.errors import UserError


@dataclass(frozen=True)
class Row:
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


def _native(part: str, fusion: str) -> list[Row]:
    return [Row("diffusion", "native", part, fusion, dims) for dims in (2, 3)]


def _exportable(part: str, fusion: str, supported: bool, instead: str = "") -> Row:
    return Row("diffusion", "exportable", part, fusion, 2, supported, instead)


def _gan() -> list[Row]:
    ways = [(part, fusion) for part in ("text", "modality", "table") for fusion in ("cross-attention", "affine")]
    ways += [("modality", "text"), ("mask", "channels"), ("mask", "spade")]
    networks = [(network, dims) for network in ("resnet", "unet") for dims in (2, 3)]
    rows = [Row("gan", network, part, fusion, dims) for network, dims in networks for part, fusion in ways]
    rows += [Row("gan", network, "table", "none", dims, False, _FUSED) for network, dims in networks]
    return rows + [Row("gan", network, "prior", "channels", dims, False, _DIFFUSION) for network, dims in networks]


def _tokens() -> list[Row]:
    ways = [(part, fusion) for part in ("text", "modality", "table") for fusion in ("cross-attention", "affine")]
    ways += [("modality", "text"), ("mask", "channels"), ("prior", "channels")]
    rows = [Row("tokens", "transformer", part, fusion, dims) for dims in (2, 3) for part, fusion in ways]
    return rows + [Row("tokens", "transformer", "table", "none", dims, False, _FUSED) for dims in (2, 3)]


_FUSED = "tell the columns with --fusion affine or cross-attention, or leave --table out"
_DIFFUSION = "train an editor of the diffusion family with `medloom train edit`"
_NATIVE = "use the native network (leave --network.exportable and --base out)"
_WORDED = "word the columns as text with `medloom data prompts`, or " + _NATIVE
SUPPORT: tuple[Row, ...] = (
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
    Row("diffusion", "exportable", "text", "cross-attention", 3, False, _NATIVE),
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


def as_markdown() -> str:
    """The table for the documentation."""
    lines = ["| family | network | part | fusion | dims | supported |", "|---|---|---|---|---|---|"]
    for row in SUPPORT:
        answer = "yes" if row.supported else f"no: {row.instead}"
        lines.append(f"| {row.family} | {row.network} | {row.part} | {row.fusion} | {row.dims} | {answer} |")
    return "\n".join(lines)
