"""Which families of generators reinforcement trains, and how each is made a policy."""

from collections.abc import Mapping
from typing import Any

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.feedback.reinforcement.diffusion_policy import DiffusionPolicy
from medloom.feedback.reinforcement.objectives import ObjectiveOptions
from medloom.feedback.reinforcement.policy import Policy
from medloom.feedback.reinforcement.token_policy import TokenPolicy
from medloom.generators.base import AnyGenerator

POLICIES: Mapping[str, type[DiffusionPolicy] | type[TokenPolicy]] = {
    "diffusion": DiffusionPolicy,
    "tokens": TokenPolicy,
}


def policy_of(
    generator: AnyGenerator, objective: str | None, options: ObjectiveOptions, steps: int, times: int
) -> Policy[Any, Any]:
    """A generator as a policy.

    Args:
        generator: what is trained.
        objective: name, or None for the family's default.
        options: of the objective.
        steps: of the sampler.
        times: how often the network is asked about each image in an update.

    Raises:
        UserError: a family or a model that cannot be reinforced, or an objective that it does not have.
    """
    kind = POLICIES.get(generator.family)
    if kind is None:
        raise UserError(
            f"a {generator.family} has no probability of its images, which reinforcement needs; give a model of the"
            f" family {' or '.join(POLICIES)}, or train on images that experts accepted."
        )
    if generator.spec.patch:
        raise UserError("the model was trained on patches; reinforcement takes models of whole images.")
    names = dict.fromkeys(kind.objectives)
    if objective is not None:
        look_up(names, objective, f"objective of a {generator.family} model")
    chosen = objective or kind.objectives[0]
    return kind(generator, chosen, options, steps, times)  # type: ignore[arg-type]
