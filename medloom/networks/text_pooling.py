"""How a published text encoder makes one vector of a text: the pooled tokens, and the projection behind them.

It lies next to the transformers files of an encoder, as `pooling.json` and `pooling.safetensors`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medloom.core.errors import UserError, first_line
from medloom.core.files import read_mapping, write_json
from medloom.networks.weights import require_finite

SETTINGS, WEIGHTS = "pooling.json", "pooling.safetensors"
# The model's own pooled output; the first token; the mean over tokens that are not padding.
POOLER, FIRST, MEAN = "pooler", "first", "mean"
POOLS = (POOLER, FIRST, MEAN)


@dataclass(frozen=True)
class Layer:
    """A layer of the projection.

    Attributes:
        kind: linear, gelu or norm.
        inputs: width of the input; 0 of a gelu.
        outputs: width of the output; 0 of a gelu.
        bias: whether a linear layer has a bias.
        epsilon: of a norm.
    """

    kind: Literal["linear", "gelu", "norm"]
    inputs: int = 0
    outputs: int = 0
    bias: bool = False
    epsilon: float = 1e-5

    def build(self) -> nn.Module:
        """The layer with fresh weights."""
        if self.kind == "linear":
            return nn.Linear(self.inputs, self.outputs, bias=self.bias)
        return nn.GELU() if self.kind == "gelu" else nn.LayerNorm(self.inputs, eps=self.epsilon)


@dataclass(frozen=True)
class PoolingConfig:
    """How a text encoder pools.

    Attributes:
        pool: see POOLS.
        width: of the pooled vector.
        layers: hidden states that are averaged before pooling, 0 the embeddings; none for the model's output.
        head: the projection; empty for none.
        max_tokens: longest text that the encoder was trained on, or None for as long as its positions reach.
    """

    pool: str
    width: int
    layers: tuple[int, ...] = ()
    head: tuple[Layer, ...] = ()
    max_tokens: int | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "PoolingConfig":
        """The config from the values of pooling.json.

        Raises:
            TypeError, ValueError, KeyError: values that are none.
        """
        head = tuple(Layer(**layer) for layer in values["head"])
        if values["pool"] not in POOLS:
            raise ValueError(f"pool {values['pool']!r}")
        return cls(**{**values, "layers": tuple(values["layers"]), "head": head})


class Pooling(nn.Module):
    """Pools the output of a transformers text model and projects it.

    Attributes:
        config: how.
        head: the projection.
    """

    def __init__(self, config: PoolingConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Sequential(*(layer.build() for layer in config.head))

    def forward(self, output: Any, mask: Tensor) -> Tensor:
        """The pooled vectors `(N, D)`.

        Args:
            output: of a transformers text model; with hidden states where the config names layers.
            mask: bool `(N, L)`, true for text tokens.
        """
        if self.config.pool == POOLER:
            pooled: Tensor = self.head(output.pooler_output)
            return pooled
        states: Tensor = output.last_hidden_state
        if self.config.layers:
            states = sum(output.hidden_states[layer] for layer in self.config.layers) / len(self.config.layers)
        vector = states[:, 0] if self.config.pool == FIRST else mean_over_tokens(states, mask)
        projected: Tensor = self.head(vector)
        return projected

    def save(self, folder: Path) -> None:
        """Write settings and weights to a folder, next to what transformers writes there."""
        write_json(folder / SETTINGS, asdict(self.config))
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS)


def mean_over_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """The mean `(N, D)` of states `(N, L, D)` over tokens that are not padding."""
    weight = mask.to(states.dtype)[..., None]
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)


def read_pooling_config(folder: Path) -> PoolingConfig | None:
    """How the encoder in a folder pools; None where no file says it.

    Raises:
        UserError: the file was edited or cut short.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return None
    try:
        return PoolingConfig.from_json(read_mapping(path))
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{path} does not say how a text encoder pools ({error}); import the weights again.") from error


def load_pooling(folder: Path) -> Pooling | None:
    """The pooling of the encoder in a folder; None where no file says it.

    Raises:
        UserError: a file is missing, was edited or cut short.
    """
    config = read_pooling_config(folder)
    if config is None:
        return None
    pooling = Pooling(config)
    try:
        pooling.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = first_line(error)
        raise UserError(f"{folder / WEIGHTS} cannot be read ({reason}); import the weights again.") from error
    require_finite(pooling.state_dict(), str(folder / WEIGHTS))
    return pooling


def build_pooling(config: PoolingConfig, weights: Sequence[Mapping[str, Tensor]]) -> Pooling:
    """A pooling with published weights.

    Args:
        config: how it pools.
        weights: of each layer of the projection, by the names that torch gives them.

    Raises:
        ValueError: weights of other shapes than the config says.
    """
    pooling = Pooling(config)
    state = {f"head.{k}.{name}": tensor.float() for k, layer in enumerate(weights) for name, tensor in layer.items()}
    try:
        pooling.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return pooling
