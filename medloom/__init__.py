"""Conditional and counterfactual medical image generation.

What a library user needs is here, imported when it is first used, so that `import medloom` is quick:

    load          a trained generator of any family, from its run folder
    Condition     what an image should show: text, modality, view, prior image, mask, clinical table
    Edit          what an editor starts from, and where it may change an image
    DiffusionSampling, TokenSampling    how images are sampled: steps, guidance, ...
    Manifest      a checked table of images; `read_manifest` reads one
    Dataset       the images of a manifest as a torch dataset
    train         train a model, as `medloom train` does
    run           any command of `medloom`, by name
    evaluate      compare synthetic with real images, as `medloom evaluate images` does
    metrics       the metrics as plain functions on arrays
    UserError     what every function raises for a mistake of the user
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from medloom import metrics
    from medloom.core.errors import UserError
    from medloom.core.types import Condition
    from medloom.data.manifest import Manifest, read_manifest
    from medloom.data.torch_dataset import Dataset
    from medloom.generators.sampling import DiffusionSampling, Edit, TokenSampling
    from medloom.generators.storage import load
    from medloom.recipes.commands import evaluate, train
    from medloom.recipes.commands import run_command as run

# Name -> module and the name in it.
_PUBLIC = {
    "Condition": "medloom.core.types:Condition",
    "Dataset": "medloom.data.torch_dataset:Dataset",
    "DiffusionSampling": "medloom.generators.sampling:DiffusionSampling",
    "Edit": "medloom.generators.sampling:Edit",
    "Manifest": "medloom.data.manifest:Manifest",
    "TokenSampling": "medloom.generators.sampling:TokenSampling",
    "UserError": "medloom.core.errors:UserError",
    "evaluate": "medloom.recipes.commands:evaluate",
    "load": "medloom.generators.storage:load",
    "metrics": "medloom.metrics:",
    "read_manifest": "medloom.data.manifest:read_manifest",
    "run": "medloom.recipes.commands:run_command",
    "train": "medloom.recipes.commands:train",
}
__all__ = [
    "Condition", "Dataset", "DiffusionSampling", "Edit", "Manifest", "TokenSampling", "UserError", "evaluate", "load",
    "metrics", "read_manifest", "run", "train",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'medloom' has no attribute {name!r}")
    module, _, inner = _PUBLIC[name].partition(":")
    found = import_module(module)
    return getattr(found, inner) if inner else found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
