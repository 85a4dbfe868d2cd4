"""Earlier generated images, shown to the discriminator among the latest (Shrivastava et al. 2017, section 2.3)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medloom.core.seeds import torch_generator

PREFIX = "pool."
FILLED = "filled"


class ImagePool:
    """As in pix2pix and CycleGAN: each new entry is shown, or, half the time once the pool is full, takes an old one's
    place, which is shown instead.

    Which one is a function of (seed, step, row), so that a resumed run shows the same.

    Attributes:
        seed: of the choices.
        entries: name -> tensor `(size, ...)`, an image with what belongs to it.
        filled: how many entries there are.
    """

    def __init__(
        self, size: int, seed: int, shapes: Mapping[str, tuple[Sequence[int], torch.dtype]], device: torch.device
    ) -> None:
        """Make an empty pool.

        Args:
            size: entries that it can hold; 0 for one that gives back what it is given.
            seed: of the choices.
            shapes: name -> shape and type of one entry.
            device: where entries are kept.
        """
        self.size = size
        self.seed = seed
        self.entries = {
            name: torch.zeros((size, *shape), dtype=kind, device=device) for name, (shape, kind) in shapes.items()
        }
        self.filled = 0

    def exchange(self, new: Mapping[str, Tensor], rows: Sequence[int], step: int) -> dict[str, Tensor]:
        """What to show instead of new entries.

        Args:
            new: name -> tensor `(N, ...)`.
            rows: the row of each entry, N of them.
            step: optimiser step.

        Returns:
            Tensors like `new`; some entries are past ones.
        """
        shown = {name: values.detach().clone() for name, values in new.items()}
        for place, row in enumerate(rows if self.size else ()):
            self._exchange_one({name: values[place] for name, values in shown.items()}, row, step)
        return shown

    def _exchange_one(self, entry: Mapping[str, Tensor], row: int, step: int) -> None:
        """Store `entry`, or swap it in place with an old one, or leave it."""
        if self.filled < self.size:
            for name, values in self.entries.items():
                values[self.filled] = entry[name].to(values.dtype)
            self.filled += 1
            return
        generator = torch_generator(self.seed, "pool", step, row)
        if torch.rand((), generator=generator) < 0.5:
            return
        chosen = int(torch.randint(self.size, (), generator=generator))
        for name, values in self.entries.items():
            old = values[chosen].clone()
            values[chosen] = entry[name].to(values.dtype)
            entry[name].copy_(old)

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name."""
        if not self.size:
            return {}
        return {PREFIX + name: values for name, values in self.entries.items()} | {
            PREFIX + FILLED: torch.tensor(self.filled)
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        if not self.size:
            return
        for name, values in self.entries.items():
            values.copy_(state[PREFIX + name])
        self.filled = int(state[PREFIX + FILLED])
