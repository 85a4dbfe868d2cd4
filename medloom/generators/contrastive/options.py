"""Options of a text encoder that is trained on pairs of images and texts."""

from dataclasses import dataclass, field
from typing import ClassVar

from medloom.core.errors import UserError
from medloom.core.options import setting
from medloom.generators.options import TrainOptions


@dataclass(frozen=True)
class EncoderOptions:
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
    max_tokens: int = setting(77)
    width: int = setting(128)
    layers: int = setting(2)
    image_widths: tuple[int, ...] = setting((32, 64, 128, 128))
    joint: int = setting(128)
    temperature: float = setting(0.07)

    def __post_init__(self) -> None:
        if (
            not self.image_widths
            or self.max_tokens < 4
            or min(self.width, self.layers, self.joint, *self.image_widths) < 1
        ):
            raise UserError(
                f"--encoder.max-tokens {self.max_tokens}, --encoder.layers {self.layers}: texts have at least 4 tokens,"
                " encoders at least one layer or width, and all widths are at least 1."
            )
        if not 0.01 <= self.temperature <= 1:
            raise UserError(f"--encoder.temperature {self.temperature}: it is in [0.01, 1].")


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
    )  # fmt: skip

    encoder: EncoderOptions = field(default_factory=EncoderOptions)
