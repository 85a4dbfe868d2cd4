"""What the training program asks of a family of models. A new family is one folder and one row of the registry."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from medloom.core.spec import ImageSpec
from medloom.core.types import Task
from medloom.generators.options import TrainOptions
from medloom.generators.preparation import Prepared

if TYPE_CHECKING:
    from accelerate import Accelerator

Options = TypeVar("Options", bound=TrainOptions)
Trained = TypeVar("Trained")


@dataclass(frozen=True)
class Origin:
    """What a training starts from, beside fresh weights.

    Attributes:
        parents: run folders whose training patients it has therefore seen.
        model: of a run that is continued, loaded; else None.
        first: the first of two stages, loaded; else None.
        space: image space of what it builds on, whose window of HU is the default; or None.
        extends: image space that the data are brought to, with further modalities; or None.
    """

    parents: Sequence[Path] = ()
    model: Any = None
    first: Any = None
    space: ImageSpec | None = None
    extends: ImageSpec | None = None


@dataclass(frozen=True)
class Components:
    """What index.json says of a model.

    Attributes:
        classes: component -> class.
        exporter: the class of another library that opens the model, or None.
    """

    classes: dict[str, str] = field(default_factory=dict)
    exporter: str | None = None


class Family(ABC, Generic[Options, Trained]):
    """A family of models, as the training program and the command line see it.

    Attributes:
        name: in index.json.
        tasks: name of each `medloom train` command -> its options.
    """

    name: ClassVar[str]
    tasks: ClassVar[dict[str, type[TrainOptions]]]

    def checked(self, options: Options) -> Options:
        """The options, where they do not exclude each other.

        Raises:
            UserError: they do.
        """
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

    @abstractmethod
    def build(self, options: Options, data: Prepared, origin: Origin, verbose: bool) -> tuple[Prepared, Trained]:
        """The model that is trained, and the data in the space that it takes.

        Raises:
            UserError: options or data that do not fit.
        """

    @abstractmethod
    def components(self, trained: Trained) -> Components:
        """What index.json says of the model."""

    @abstractmethod
    def task(self, options: Options, data: Prepared, trained: Trained, accelerator: "Accelerator") -> Task[Any]:
        """What the loop trains; fills the caches first.

        Raises:
            UserError: images, masks or texts that cannot be used.
        """

    def finished(self, options: Options) -> bool:
        """Whether all that follows the last step is there too."""
        return True

    def report(self, options: Options, data: Prepared, task: Task[Any]) -> None:
        """Say how good the trained model is, where the family measures it."""
