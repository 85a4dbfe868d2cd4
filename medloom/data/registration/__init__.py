"""A patient's earlier image brought onto the later one: rigid, similarity or affine, in 2-D and 3-D alike."""

from medloom.data.registration.alignment import Registration, apply_to_labels, register
from medloom.data.registration.geometry import Motion
from medloom.data.registration.options import TRANSFORMS, RegistrationOptions
from medloom.data.registration.pairs import Pair, PairResult, failures, register_pairs
from medloom.data.registration.pictures import registration_sheet

__all__ = [
    "TRANSFORMS",
    "Motion",
    "Pair",
    "PairResult",
    "Registration",
    "RegistrationOptions",
    "apply_to_labels",
    "failures",
    "register",
    "register_pairs",
    "registration_sheet",
]
