"""Options of a text encoder that is trained on pairs of images and texts."""

from dataclasses import dataclass, field
from typing import ClassVar

from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited
from medloom.core.options import setting
from medloom.generators.options import TrainOptions


@dataclass(frozen=True)
class PairEncoderOptions:
    """The text encoder and the image encoder trained with it.

    Attributes:
        vocabulary: tokens of the tokenizer, which is trained on the texts.
        max_tokens: longest text; what is longer is cut, and said.
        width: width of the text encoder.
        layers: of the text encoder.
        image_widths: feature channels of the image encoder, each after halving the image.
        joint: width of the space in which images and texts are compared.
        temperature: of the comparison at the start; it is trained.
    """

    vocabulary: int = setting(2000)
    max_tokens: int = limited(77, at_least=4, setting=True)
    width: int = limited(128, at_least=1, setting=True)
    layers: int = limited(2, at_least=1, setting=True)
    image_widths: tuple[int, ...] = limited((32, 64, 128, 128), at_least=1, setting=True)
    joint: int = limited(128, at_least=1, setting=True)
    temperature: float = limited(0.07, at_least=0.01, at_most=1, setting=True)

    def __post_init__(self) -> None:
        check_limits(self, "encoder")
        if not self.image_widths:
            raise UserError("the setting encoder.image_widths: give one width or more.")


@dataclass(frozen=True, kw_only=True)
class EncodeTexts(TrainOptions):
    """Train a text encoder to find which text belongs to which image.

    Attributes:
        data: manifest with path and Text.
        encoder: the text encoder and the image encoder trained with it.
        loop: the training loop; each image is compared with as many texts as the batch has.
    """

    family: ClassVar[str] = "text-encoder"
    task: ClassVar[str] = "text-encoder"
    settings: ClassVar[str] = "medloom.generators.settings.text_encoder"
    need: ClassVar[tuple[str, ...]] = ("path", "text")
    use: ClassVar[str] = "medloom train text2image --text.encoder {} --data MANIFEST --out RUN"
    example: ClassVar[str] = "medloom train text-encoder --data train.csv --out runs/words"
    common: ClassVar[tuple[str, ...]] = (
        "size", "image_size", "columns", "images_are_patients", "skip_bad", "loop.steps", "loop.batch", "device",
        "dry_run",
    )  # fmt: skip

    encoder: PairEncoderOptions = field(default_factory=PairEncoderOptions)
