"""The table of samplers: functions that turn noise into samples by following a path backwards.

Each is called `sampler(denoise, x, path, steps, noise_fn=None, callback=None)`:

    denoise   (x, t) -> prediction, the network with its guidance; t is `(N,)` in the path's own time
    x         standard normal noise, `(N, C, *spatial)`; the result has its shape and dtype
    path      what the network was trained on
    steps     number of steps
    noise_fn  (index) -> standard normal noise `(N, C, *spatial)`; needed only by samplers that add noise at each step
    callback  called with each `Step`

and returns the data that the network and the sampler imply. Options of single samplers (`eta`, `spacing`) are keywords.
Numbers equal those of diffusers' schedulers with Stable Diffusion's settings: spacing `leading`, offset 1, no clipping,
DDIM and PNDM ending at the path's first level.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.processes.ddpm_samplers import ancestral, ddim, dpm_solver_karras, euler, pndm
from medloom.processes.flow_samplers import flow_dpm_solver, flow_euler, flow_heun, flow_sde
from medloom.processes.paths import DDPM, ProbabilityPath, RectifiedFlow
from medloom.processes.steps import Denoise, ddpm_times, flow_sigmas

Sampler = Callable[..., Tensor]


def _only_for(kind: type[ProbabilityPath], name: str, sampler: Sampler) -> Sampler:
    @wraps(sampler)
    def checked(denoise: Denoise, x: Tensor, path: ProbabilityPath, steps: int, **options: Any) -> Tensor:
        if not isinstance(path, kind):
            raise UserError(
                f"sampler {name!r} does not fit a {type(path).__name__} path; use {', '.join(samplers_for(path))}."
            )
        return sampler(denoise, x, path, steps, **options)

    return checked


_FITTING: dict[type[ProbabilityPath], dict[str, Sampler]] = {
    DDPM: {
        "dpm++2m-karras": dpm_solver_karras,
        "ddim": ddim,
        "pndm": pndm,
        "euler": euler,
        "ancestral": ancestral,
    },
    RectifiedFlow: {
        "flow-dpm++2m": flow_dpm_solver,
        "flow-euler": flow_euler,
        "flow-heun": flow_heun,
        "flow-sde": flow_sde,
    },
}
SAMPLERS: dict[str, Sampler] = {
    name: _only_for(kind, name, sampler) for kind, table in _FITTING.items() for name, sampler in table.items()
}


def samplers_for(path: ProbabilityPath) -> tuple[str, ...]:
    """Names in SAMPLERS that fit `path`, the default first."""
    return tuple(_FITTING[type(path)])


def default_sampler(path: ProbabilityPath) -> str:
    """The sampler used where none is named: DPM-Solver++(2M), which the export of a model also has."""
    return samplers_for(path)[0]


def first_order(path: ProbabilityPath, steps: int) -> tuple[Sampler, list[float]]:
    """The deterministic sampler of first order, and the times at which it asks the network, from noise to data."""
    if isinstance(path, DDPM):
        times = [float(time) for time, _ in ddpm_times(path, steps, "trailing")]
        return partial(ddim, spacing="trailing"), times
    if isinstance(path, RectifiedFlow):
        return flow_euler, flow_sigmas(path, steps)[:-1]
    raise UserError(f"a {type(path).__name__} path has no sampler of first order.")


def get_sampler(name: str, path: ProbabilityPath) -> Sampler:
    """The sampler called `name`.

    Raises:
        UserError: unknown, or it does not fit the path; lists those that do.
    """
    look_up(SAMPLERS, name, "sampler")
    return look_up(
        {fitting: SAMPLERS[fitting] for fitting in samplers_for(path)}, name, f"sampler of a {type(path).__name__} path"
    )
