"""A patient's earlier image brought onto the later one: rigid, similarity or affine, in 2-D and 3-D alike."""

from medloom.longitudinal.registration.alignment import Registration, apply_to_labels, register
from medloom.longitudinal.registration.geometry import Motion
from medloom.longitudinal.registration.options import TRANSFORMS, RegistrationOptions
from medloom.longitudinal.registration.pairs import Pair, PairResult, failures, register_pairs
from medloom.longitudinal.registration.pictures import registration_sheet

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
