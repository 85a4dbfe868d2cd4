"""Patch discriminators: each output judges whether one patch of an image is real."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from medloom.core.errors import UserError
from medloom.networks.blocks import CONVOLUTION, group_norm

NORMS = ("spectral", "group")
KERNEL = 4
SLOPE = 0.2
WIDEST = 8


class PatchDiscriminator(nn.Module):
    """The PatchGAN discriminator (Isola et al. 2017, appendix 6.1.2) in two or three dimensions.

    With three layers a patch is 70 pixels wide. The spectral norm (Miyato et al. 2018) bounds each layer's slope and
    normalises no activations; the group norm is closest to the original, and does not mix the images of a batch.
    """

    def __init__(self, dims: int, channels: int, width: int, layers: int = 3, norm: str = "spectral") -> None:
        """Make one with fresh weights.

        Args:
            dims: 2 or 3 spatial axes.
            channels: of an image.
            width: feature channels of the first layer; each further one has twice as many, up to 8 times.
            layers: layers that halve the image.
            norm: spectral or group.

        Raises:
            UserError: an unknown norm.
        """
        super().__init__()
        if norm not in NORMS:
            raise UserError(f"discriminator norm {norm!r} is not known; allowed: {', '.join(NORMS)}.")
        widths = [width * min(2**level, WIDEST) for level in range(layers + 1)]
        strides = [2] * layers + [1]
        inputs = [channels, *widths]
        self.blocks = nn.ModuleList(
            _block(dims, inputs[level], widths[level], strides[level], norm, normalise=level > 0)
            for level in range(layers + 1)
        )
        self.judge = _convolution(dims, widths[-1], 1, 1, norm)

    def require_size(self, size: tuple[int, ...]) -> None:
        """Refuse images of which no patch would be left.

        Raises:
            UserError: says how large they have to be.
        """
        layers = len(self.blocks) - 1
        smallest = 3 * 2**layers
        if min(size) < smallest:
            raise UserError(
                f"images of {size} pixels are too small for a discriminator of {layers} layers,"
                f" which takes {smallest} pixels or more an axis; use larger images, or no discriminator."
            )

    def features(self, images: Tensor) -> list[Tensor]:
        """Activations after each hidden layer, first to last, each `(N, C', *size')`.

        Args:
            images: `(N, C, *size)` in [-1, 1]; see `require_size`.
        """
        found: list[Tensor] = []
        for block in self.blocks:
            images = block(images)
            found.append(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, 1, *patches)`, high where a patch seems real, of images `(N, C, *size)` in [-1, 1]."""
        return self.judge(self.features(images)[-1])


def _block(dims: int, inputs: int, outputs: int, stride: int, norm: str, normalise: bool) -> nn.Sequential:
    # The first layer is not normalised, so that overall brightness is not lost (Isola et al. 2017).
    between = group_norm(outputs) if norm == "group" and normalise else nn.Identity()
    return nn.Sequential(_convolution(dims, inputs, outputs, stride, norm), between, nn.LeakyReLU(SLOPE))


def _convolution(dims: int, inputs: int, outputs: int, stride: int, norm: str) -> nn.Module:
    layer: nn.Module = CONVOLUTION[dims](inputs, outputs, KERNEL, stride=stride, padding=1)
    return spectral_norm(layer) if norm == "spectral" else layer


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within the block a module passes gradients on to its input and changes nothing of its own.

    Its parameters get no gradients from what is computed in the block, even if the backward pass runs after it, and
    its buffers (the spectral norm's vectors) stay.
    """
    training = module.training
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.eval()
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        module.train(training)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of max(0, 1 - D(x)) + max(0, 1 + D(G)), halved (Lim & Ye 2017), of logits of any shape."""
    return 0.5 * (F.relu(1.0 - real.float()).mean() + F.relu(1.0 + fake.float()).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """Mean of -D(G), the generator's side of the hinge loss, of logits of any shape."""
    return -fake.float().mean()
