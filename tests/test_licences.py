"""What an installation brings along may be used in an Apache-2.0 package: no required dependency is copyleft."""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement

# Weak copyleft by file (MPL) leaves the licence of other files as it is.
COPYLEFT = re.compile(r"\b(?:A|L)?GPL|GNU|EUPL|CeCILL|SSPL|Affero", re.IGNORECASE)


def required(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """A distribution and all that it requires, by name; extras are not followed."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in found:
        return found
    try:
        found[key] = distribution(name)
    except PackageNotFoundError:
        return found
    for line in found[key].requires or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            required(requirement.name, found)
    return found


def licence(one: Distribution) -> list[str]:
    """What a distribution says of its licence, in the three places where one may; of a whole text the first lines."""
    stated = one.metadata
    classifiers = [line for line in stated.get_all("Classifier") or [] if line.startswith("License")]
    text = (stated.get("License") or "").strip()
    return [entry for entry in (stated.get("License-Expression") or "", text[:200], *classifiers) if entry]


def test_no_required_dependency_is_copyleft() -> None:
    found = required("medloom", {})
    assert {"torch", "pydicom", "imagecodecs", "nibabel", "simpleitk"} <= set(found)
    wrong = {name: said for name, one in found.items() if any(map(COPYLEFT.search, said := licence(one)))}
    assert not wrong, f"replace these, or make them optional: {wrong}"


def test_every_required_dependency_states_a_licence() -> None:
    assert not [name for name, one in required("medloom", {}).items() if not licence(one)]


@pytest.mark.parametrize("text", ["GPL-3.0-only", "GNU General Public License v3 (GPLv3)", "LGPL-2.1", "AGPLv3"])
def test_copyleft_is_recognised(text: str) -> None:
    assert COPYLEFT.search(text)
