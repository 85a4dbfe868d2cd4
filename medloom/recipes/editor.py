"""`medloom train edit`: from a table of earlier images, instructions and later images to an editor."""

from dataclasses import dataclass, field
from pathlib import Path

from medloom.core.errors import UserError
from medloom.generators.diffusion.options import NetworkOptions
from medloom.generators.preparation import UNREGISTERED, check_unregistered
from medloom.recipes.diffusion_run import DiffusionOptions, train_diffusion

# Stage -> columns that its manifest has.
# An image without a report still shows what images look like; how many there are is said.
NEED = {1: ("path",), 2: ("path", "prior")}


def _network() -> NetworkOptions:
    return NetworkOptions(prior="channels")


@dataclass(frozen=True, kw_only=True)
class Config(DiffusionOptions):
    """Train an editor: a diffusion generator that is given an earlier image beside the instruction.

    Attributes:
        data: manifest with path, prior and instruction (else Text), as `medloom data journeys` writes it; of stage 1,
            path and Text.
        preset: a published system's settings: biomedjourney.
        stage: 2 trains on earlier images; 1 leaves them empty, so that many images with reports and few pairs can be
            trained on one after another (go on with `--from`).
        unregistered: share of draws that take the earlier image as it is, where the manifest has registered ones too;
            at use there is no later image to register to.
        network: the denoiser.
    """

    stage: int = 2
    unregistered: float = UNREGISTERED
    network: NetworkOptions = field(default_factory=_network)


def run(config: Config) -> Path:
    """Train; returns the run folder.

    Raises:
        UserError: options out of range, a manifest without instructions, or a run that is no editor; and see
            `train_diffusion`.
    """
    _check(config)
    use = "medloom edit --model {} --image PRIOR --text ... --out DIR"
    if config.stage == 1:
        use = "medloom train edit --from {} --data TRIPLES --out RUN"
    return train_diffusion(config, NEED[config.stage], use, config.unregistered, empty_priors=config.stage == 1)


def _check(config: Config) -> None:
    if config.stage not in NEED:
        raise UserError(f"--stage {config.stage}: allowed are 1 (no earlier images) and 2 (with them).")
    check_unregistered(config.unregistered)
    if config.network.prior == "none":
        raise UserError("--network.prior none: an editor is given earlier images; leave it out.")
