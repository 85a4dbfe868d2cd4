"""What the training program asks of a family of models. A new family is one folder and one row of the registry."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from medloom.core.spec import ImageSpec
from medloom.core.types import Task
from medloom.generators.options import TrainOptions
from medloom.generators.preparation import Prepared
from medloom.generators.run_folder import Components
from medloom.generators.unused_options import Unused

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from medloom.generators.base import AnyGenerator
    from medloom.generators.base_task import LossTask
    from medloom.generators.training_data import TrainingData

Options = TypeVar("Options", bound=TrainOptions)
Trained = TypeVar("Trained")


@dataclass(frozen=True)
class Origin:
    """What a training starts from, if not from fresh weights.

    Attributes:
        parents: run folders whose training patients it has therefore seen.
        model: of a run that is continued, loaded; else None.
        first: the first of two stages, loaded; else None.
        base: a published model that was found, or None.
        options: of the run that is continued, by name; empty where there is none.
        space: image space of what it builds on, whose window of HU is the default; or None.
        extends: image space that the data are brought to, with further modalities; or None.
    """

    parents: Sequence[Path] = ()
    model: Any = None
    first: Any = None
    base: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    space: ImageSpec | None = None
    extends: ImageSpec | None = None


class Family(ABC, Generic[Options, Trained]):
    """A family of models, as the training program and the command line see it.

    Attributes:
        name: in index.json.
    """

    name: ClassVar[str]
    # The class of its generators, where its models generate images.
    generator: "ClassVar[type[AnyGenerator] | None]" = None
    # Whether single images have losses, which a membership attack could use.
    has_image_losses: ClassVar[bool] = False

    def loss_task(self, trained: Trained, data: "TrainingData", device: "torch.device") -> "LossTask[Any, Any]":
        """A task that is asked for the losses of single images alone, where the family has them."""
        raise TypeError(f"the {self.name} family has no losses of single images")

    def checked(self, options: Options) -> Options:
        """The options, where they do not exclude each other.

        Raises:
            UserError: they do.
        """
        return options

    def at_full_load(self, options: Options) -> Options:
        """The options with everything that joins later at work from the first step, for a dry run."""
        return options

    def may_leave_unused(self, options: Options) -> bool:
        """Whether a step may leave some trained weights without gradient, which several processes look for."""
        return False

    @abstractmethod
    def origin(self, options: Options) -> Origin:
        """What training starts from.

        Raises:
            UserError: a run or folder that it cannot start from.
        """

    def unused(self, options: Options, origin: Origin) -> Sequence[Unused]:
        """The options that this way of building the model does not use, which are refused where they are given."""
        return ()

    def completed(self, options: Options, data: Prepared, origin: Origin, verbose: bool) -> Options:
        """The options with what the data decide, where a user left it to them.

        Raises:
            UserError: data that do not fit.
        """
        return options

    @abstractmethod
    def build(self, options: Options, data: Prepared, origin: Origin, verbose: bool) -> tuple[Prepared, Trained]:
        """The model that is trained, and the data in the space that it takes.

        Raises:
            UserError: options or data that do not fit.
        """

    def described(self, options: Options, trained: Trained) -> Options:
        """The options as run.json states them, of the model that was built."""
        return options

    @abstractmethod
    def components(self, trained: Trained) -> Components:
        """What index.json says of the model."""

    @abstractmethod
    def task(self, options: Options, data: Prepared, trained: Trained, accelerator: "Accelerator") -> Task[Any]:
        """What the loop trains; fills the caches first.

        Raises:
            UserError: images, masks or texts that cannot be used.
        """

    def companions(self) -> tuple[str, ...]:
        """Files that a finished run has besides those of all families."""
        return ()

    def report(self, options: Options, data: Prepared, task: Task[Any]) -> None:
        """Say how good the trained model is, where the family measures it."""
