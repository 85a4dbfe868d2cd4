"""Splits by patient, recorded with every model as salted hashes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from medloom.core.cells import spelled
from medloom.core.errors import UserError
from medloom.core.files import hash_json, hash_text
from medloom.core.seeds import numpy_generator
from medloom.data.manifest import Manifest

NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Split:
    """The patients of each split as salted hashes, which recognise a patient without naming any.

    Attributes:
        salt: of the hashes.
        patients: split name -> hashes of its patients, sorted.
    """

    salt: str
    patients: Mapping[str, tuple[str, ...]]

    @property
    def fingerprint(self) -> str:
        """A hash of the split."""
        return hash_json(self.to_dict())

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {"salt": self.salt, "patients": {name: list(ids) for name, ids in self.patients.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Split":
        """From the values of `to_dict`."""
        return cls(values["salt"], {name: tuple(ids) for name, ids in values["patients"].items()})

    def seen(self, patients: Sequence[str], name: str = "train") -> list[str]:
        """Those of `patients` that are in split `name`."""
        known = set(self.patients.get(name, ()))
        return [patient for patient in dict.fromkeys(patients) if hash_patient(patient, self.salt) in known]

    def refuse_overlap(self, manifest: Manifest, model: str) -> None:
        """Refuse a test manifest with patients from the training set of a model.

        Raises:
            UserError: states the number of patients and their first line.
        """
        overlap = set(self.seen(list(manifest.frame["patient_id"])))
        if not overlap:
            return
        line = int(manifest.frame.loc[manifest.frame["patient_id"].isin(overlap), "line"].iloc[0])
        total = manifest.frame["patient_id"].nunique()
        raise UserError(
            f"{manifest.source}: {len(overlap)} of its {total} patients were in the training set of {model}"
            f" (first at line {line}); evaluate on other patients."
        )


def hash_patient(patient: str, salt: str) -> str:
    """A salted hash of a patient's identifier, 16 hexadecimal digits."""
    return hash_text(f"{salt}\x1f{patient}")


def assign_splits(
    manifest: Manifest, fractions: Mapping[str, float], seed: int, columns: Sequence[str] = ()
) -> list[str]:
    """The split of each row: from the column `split` if there is one, else at random by patient.

    Args:
        manifest: the rows.
        fractions: split name -> fraction of the patients; the first split takes the remainder.
        seed: of the random assignment.
        columns: of which each split gets its share of the patients of every value, as far as whole patients allow.

    Raises:
        UserError: an unknown name in the column, a patient in two splits, or too few patients.
    """
    if "split" in manifest.frame:
        return _from_column(manifest)
    patients = sorted(set(manifest.frame["patient_id"]))
    needed = sum(fraction > 0 for fraction in fractions.values())
    if len(patients) < needed:
        raise UserError(f"{manifest.source}: {len(patients)} patients cannot fill {needed} splits; use fewer splits.")
    order = [patients[index] for index in numpy_generator(seed, "split").permutation(len(patients))]
    first, *others = fractions
    # At least one patient, so that small tables get a validation set too.
    places = {name: max(1, round(fractions[name] * len(patients))) if fractions[name] > 0 else 0 for name in others}
    strata = _strata(manifest, columns)
    counts = Counter(value for values in strata.values() for value in values)
    if counts and min(counts.values()) < len(patients):
        of_patient = _stratified(order, strata, {**places, first: len(patients) - sum(places.values())})
    else:
        taken = iter(order)
        of_patient = {patient: name for name, count in places.items() for patient in islice(taken, count)}
        of_patient |= dict.fromkeys(taken, first)
    return [of_patient[patient] for patient in manifest.frame["patient_id"]]


def _strata(manifest: Manifest, columns: Sequence[str]) -> dict[str, set[tuple[str, str]]]:
    """The values of some columns that each patient has, with their column."""
    strata: dict[str, set[tuple[str, str]]] = {patient: set() for patient in manifest.frame["patient_id"]}
    for column in columns:
        for patient, cell in zip(manifest.frame["patient_id"], manifest.frame[column], strict=True):
            if text := spelled(cell):
                strata[patient].add((column, text))
    return strata


def _stratified(
    order: Sequence[str],
    strata: Mapping[str, set[tuple[str, str]]],
    places: Mapping[str, int],
) -> dict[str, str]:
    """The split of each patient, so that each split has its share of every value (Sechidis et al. 2011).

    The rarest value is dealt out first, each of its patients to the split that lacks most of it.

    Args:
        order: the patients, at random.
        strata: the values of each.
        places: patients of each split; together all of them.
    """
    free = dict(places)
    of_value: dict[tuple[str, str], list[str]] = {}
    for patient in order:
        for value in sorted(strata[patient]):
            of_value.setdefault(value, []).append(patient)
    # A value of fewer patients cannot be in every split, and must not decide where others go.
    parts = sum(count > 0 for count in places.values())
    of_value = {value: patients for value, patients in of_value.items() if len(patients) >= parts}
    wanted = {
        name: {value: max(count * len(found) / len(order), float(count > 0)) for value, found in of_value.items()}
        for name, count in places.items()
    }
    found: dict[str, str] = {}
    while len(found) < len(order):
        left = {value: [p for p in patients if p not in found] for value, patients in of_value.items()}
        rare = min(
            (value for value in left if left[value]),
            key=lambda value: (len(left[value]), value),
            default=None,
        )
        for patient in left[rare] if rare is not None else [p for p in order if p not in found]:
            # Ties go to the split with most places, as a share of its own.
            name = max(
                (name for name in places if free[name]),
                key=lambda name: (wanted[name][rare] if rare else 0.0, free[name] / places[name]),
            )
            found[patient] = name
            free[name] -= 1
            for value in strata[patient] & of_value.keys():
                wanted[name][value] -= 1
    return found


def _from_column(manifest: Manifest) -> list[str]:
    of_patient: dict[str, str] = {}
    rows = zip(manifest.frame["line"], manifest.frame["split"], manifest.frame["patient_id"], strict=True)
    for line, cell, patient in rows:
        name = NAMES.get(str(cell).casefold())
        if name is None:
            raise UserError(
                f"{manifest.source}, line {line}, column 'split': {cell!r} is not a split; allowed: train, val, test."
            )
        if of_patient.setdefault(patient, name) != name:
            raise UserError(
                f"{manifest.source}, line {line}: this patient is in {of_patient[patient]} and in {name};"
                " put all images of a patient in one split."
            )
    return [of_patient[patient] for patient in manifest.frame["patient_id"]]


def make_split(manifest: Manifest, splits: Sequence[str]) -> Split:
    """The Split of a manifest's patients.

    Args:
        manifest: the rows.
        splits: split of each row: train, validation or test.

    Examples:
        >>> import medloom
        >>> from medloom.data.splits import make_split
        >>> manifest = medloom.read_manifest("train.csv")
        >>> split = make_split(manifest, ["train", "train", "train", "validation"])
        >>> len(split.patients["train"]), split.seen(["p0", "p3", "p7"])
        (3, ['p0'])
    """
    patients = [str(patient) for patient in manifest.frame["patient_id"]]
    salt = hash_json([sorted(set(patients)), sorted(set(splits))])
    by_name: dict[str, set[str]] = {}
    for patient, name in zip(patients, splits, strict=True):
        by_name.setdefault(name, set()).add(hash_patient(patient, salt))
    return Split(salt, {name: tuple(sorted(ids)) for name, ids in sorted(by_name.items())})
