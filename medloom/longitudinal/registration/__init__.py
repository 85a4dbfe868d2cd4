"""Registration of a patient's prior image to the current one: rigid, similarity or affine, in 2-D and 3-D."""

from medloom.longitudinal.registration.alignment import Registration, apply_to_labels, register
from medloom.longitudinal.registration.geometry import Motion
from medloom.longitudinal.registration.pairs import ImagePair, PairResult, failures, register_pairs, registration_sheet
from medloom.longitudinal.registration.search import TRANSFORMS, RegistrationOptions

__all__ = [
    "TRANSFORMS",
    "ImagePair",
    "Motion",
    "PairResult",
    "Registration",
    "RegistrationOptions",
    "apply_to_labels",
    "failures",
    "register",
    "register_pairs",
    "registration_sheet",
]
