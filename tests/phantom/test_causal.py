"""The causal model: identity, propagation, direct effects, impossible combinations, and what the placebo does."""

import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.phantom.causal import (
    MODEL,
    Patient,
    checked_value,
    counterfactual,
    descendants,
    evolved,
    make_patient,
    solve,
)

MANY = [make_patient(3, number) for number in range(1500)]


def share(patients: list[Patient], name: str, value: object) -> float:
    return float(np.mean([patient.values[name] == value for patient in patients]))


def test_parents_come_before_their_effects_and_are_all_that_an_equation_reads() -> None:
    known: set[str] = set()
    for name, variable in MODEL.items():
        assert set(variable.parents) <= known
        known.add(name)
    for patient in MANY[:40]:
        for name, variable in MODEL.items():
            parents = {parent: patient.values[parent] for parent in variable.parents}
            assert variable.equation(parents, patient.noise) == patient.values[name]


def test_no_change_is_the_same_patient() -> None:
    for patient in MANY[:200]:
        assert counterfactual(patient, {}).values == patient.values
        for name in ("age", "smoking", "diagnosis", "pack_years"):
            assert counterfactual(patient, {name: patient.values[name]}).values == patient.values


def test_a_patient_is_a_function_of_cohort_and_number() -> None:
    assert make_patient(3, 7).values == MANY[7].values
    assert make_patient(4, 7).noise != MANY[7].noise


def test_a_change_passes_through_the_graph_and_nowhere_else() -> None:
    reached = descendants("smoking")
    assert {"pack_years", "diagnosis", "emphysema", "lung_density"} <= reached
    assert not reached & {"age", "sex", "coffee", "bone_density", "height"}
    for patient in MANY[:200]:
        other = counterfactual(patient, {"smoking": "never"})
        assert other.values["pack_years"] == 0
        assert all(other.values[name] == patient.values[name] for name in MODEL if name not in reached | {"smoking"})


def test_what_is_held_stays_and_the_rest_follows() -> None:
    ill = next(patient for patient in MANY if patient.values["diagnosis"] == "effusion")
    older = counterfactual(ill, {"age": 90}, hold=("smoking", "pack_years", "diagnosis", "extent", "side"))
    assert older.values["diagnosis"] == "effusion"
    assert older.values["bone_density"] < ill.values["bone_density"]


def test_the_placebo_goes_with_smoking_and_does_nothing() -> None:
    smokers = [patient for patient in MANY if patient.values["smoking"] == "current"]
    others = [patient for patient in MANY if patient.values["smoking"] == "never"]
    assert share(smokers, "coffee", "daily") > share(others, "coffee", "daily") + 0.3
    assert not descendants("coffee")


def test_smoking_has_two_opposed_effects_on_the_lung() -> None:
    effects: dict[str, list[float]] = {"former": [], "current": []}
    for patient in MANY[:300]:
        never, former, current = (
            counterfactual(patient, change, hold=("diagnosis", "extent", "side")).values
            for change in (
                {"smoking": "never"},
                {"smoking": "former", "pack_years": 20},
                {"smoking": "current", "pack_years": 20},
            )
        )
        assert former["emphysema"] == current["emphysema"] > never["emphysema"]
        effects["former"].append(former["lung_density"] - never["lung_density"])
        effects["current"].append(current["lung_density"] - never["lung_density"])
    assert np.mean(effects["former"]) == 0
    assert np.mean(effects["current"]) == pytest.approx(12, abs=1)
    assert np.std(effects["current"]) > 1


def test_age_confounds_smoking() -> None:
    ages = {
        name: np.mean([p.values["age"] for p in MANY if p.values["smoking"] == name]) for name in ("never", "current")
    }
    assert ages["never"] > ages["current"] + 4


@pytest.mark.parametrize(
    ("do", "hold", "said"),
    [
        ({"smoking": "never", "pack_years": 30}, (), "smoking=never with pack_years=30 is impossible"),
        ({"smoking": "current", "pack_years": 0}, (), "smoking=current with pack_years=0 is impossible"),
        ({"diagnosis": "none", "extent": "severe"}, (), "diagnosis=none with extent=severe is impossible"),
        ({"smoking": "nevr"}, (), "did you mean 'never'"),
        ({"smokng": "never"}, (), "did you mean 'smoking'"),
        ({"age": 200}, (), "age=200 is out of range; allowed: 20 to 95 years."),
        ({"age": "old"}, (), "age=old: give a number"),
        ({"age": 40}, ("age",), "age is both set and held"),
    ],
)
def test_what_cannot_be_is_refused(do: dict[str, object], hold: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        counterfactual(MANY[0], do, hold)


def test_a_held_cause_that_contradicts_is_refused() -> None:
    smoker = next(patient for patient in MANY if patient.values["pack_years"] > 0)
    with pytest.raises(UserError, match="impossible"):
        counterfactual(smoker, {"smoking": "never"}, hold=("pack_years",))


def test_text_becomes_numbers() -> None:
    assert checked_value("age", "40") == 40
    assert checked_value("severity", "0.5") == 0.5


def test_disease_evolves_and_a_change_at_that_visit_keeps_identity() -> None:
    ill = next(p for p in MANY if p.values["diagnosis"] == "effusion" and p.values["extent"] == "severe")
    later = evolved(ill, 0.4)
    assert later.values["severity"] < ill.values["severity"]
    assert counterfactual(later, {"extent": later.values["extent"]}).values == later.values
    cleared = evolved(ill, 0.0)
    assert (cleared.values["diagnosis"], cleared.values["extent"], cleared.values["side"]) == ("none",) * 3


def test_solve_with_everything_set_returns_it() -> None:
    assert solve(MANY[0].noise, MANY[1].values) == MANY[1].values
