"""Images and texts in one space, in which those of a pair lie together (Radford et al. 2021, CLIP)."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.networks.image_encoder import ImageEncoder
from medloom.networks.text import TextEncoder, load_text_encoder
from medloom.networks.weights import load_network, save_network

# The published bound on the inverse temperature.
SHARPEST = 100.0
JOINT = "joint"


@dataclass(frozen=True)
class JointConfig:
    """Shape of the joint space and of the image encoder.

    Attributes:
        dims: 2 or 3.
        channels: of the images.
        image_widths: see ImageEncoder.
        text_width: of the text encoder.
        width: of the joint space.
        temperature: of the comparison at the start.
    """

    dims: int
    channels: int
    image_widths: tuple[int, ...]
    text_width: int
    width: int
    temperature: float = 0.07


class JointSpace(nn.Module):
    """An image encoder, and a linear way for images and for texts into the space in which they are compared."""

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config
        self.images = ImageEncoder(config.dims, config.channels, config.image_widths)
        self.of_image = nn.Linear(config.image_widths[-1], config.width, bias=False)
        self.of_text = nn.Linear(config.text_width, config.width, bias=False)
        self.sharpness = nn.Parameter(torch.tensor(math.log(1 / config.temperature)))

    def see(self, images: Tensor) -> Tensor:
        """Unit vectors float32 `(N, J)` of images `(N, C, *size)` in [-1, 1]."""
        return F.normalize(self.of_image(self.images(images)).float(), dim=1)

    def read(self, pooled: Tensor) -> Tensor:
        """Unit vectors float32 `(N, J)` of pooled texts `(N, D)`."""
        return F.normalize(self.of_text(pooled).float(), dim=1)

    def scale(self) -> Tensor:
        """The inverse temperature."""
        return self.sharpness.exp().clamp(max=SHARPEST)

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and the weights as safetensors to `folder`."""
        save_network(self, self.config, folder)

    @classmethod
    def from_pretrained(cls, folder: Path) -> "JointSpace":
        """Read what `save_pretrained` wrote."""
        return load_network(folder, JointConfig, cls)


class PairEncoder(nn.Module):
    """A text encoder and the joint space that it is trained in.

    Attributes:
        text: the text encoder, which generators read with.
        joint: image encoder and joint space.
    """

    def __init__(self, text: TextEncoder, joint: JointSpace) -> None:
        super().__init__()
        self.text = text
        self.joint = joint

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors float32 `(N, J)` of token ids int64 `(N, L)` with their mask bool `(N, L)`."""
        return self.joint.read(self.text(ids, mask)[1])

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of the images and the texts of pairs, and the inverse temperature."""
        return self.joint.see(images), self.read(ids, mask), self.joint.scale()

    def save(self, folder: Path) -> None:
        """Write the text encoder and its tokenizer, as transformers reads them, and the joint space."""
        self.text.save(folder, folder)
        self.joint.save_pretrained(folder / JOINT)

    @classmethod
    def load(cls, folder: Path, max_tokens: int) -> "PairEncoder":
        """Read what `save` wrote."""
        return cls(load_text_encoder(str(folder), max_tokens), JointSpace.from_pretrained(folder / JOINT))


def contrastive_loss(images: Tensor, texts: Tensor, same: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of finding each image's text in the batch and each text's image, in equal parts.

    Reports repeat each other. A text that stands in the batch several times is right wherever it stands, and shares the
    target (Yang et al. 2022, UniCL).

    Args:
        images: unit vectors `(N, J)`; texts: unit vectors `(N, J)`, row k of the same pair.
        same: bool `(N, N)`, whether rows have the same text.
        scale: the inverse temperature.

    Returns:
        A scalar.
    """
    similarity = scale * images @ texts.T
    target = same.float() / same.float().sum(1, keepdim=True)
    return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2


def found_first(images: Tensor, texts: Tensor, owner: Tensor) -> float:
    """Share of images whose nearest text is theirs.

    Args:
        images: unit vectors `(N, J)`.
        texts: unit vectors `(M, J)` of distinct texts.
        owner: int64 `(N,)`, which text is each image's.
    """
    nearest = (images @ texts.T).argmax(1)
    return float((nearest == owner.to(nearest.device)).float().mean())
