"""ImageSpec: the model's image space, and the intensity map of each modality between file values and [-1, 1].

An ImageSpec is measured on the training data, stored with every model, and enforced when data or models are loaded.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import hash_json
from medloom.core.lookup import never_trained

HU = "HU"
GREY = "grey level"
COLOUR = "sRGB level"
RELATIVE = "relative"
UNITS = (HU, GREY, COLOUR, RELATIVE)
RESIZE_RULES = ("pad", "crop", "stretch", "none")


@dataclass(frozen=True)
class Intensity:
    """Map of one modality's file values to [-1, 1].

    `window` maps [low, high], in `unit`, linearly and invertibly (CT in HU; 8-bit files in grey levels).
    `percentile` maps each image's own low-th to high-th percentile (MR, raw X-ray): both values are stored with each
    image, and generated images are in relative units from 0 to 1.
    """

    kind: str
    unit: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.kind not in ("window", "percentile") or self.unit not in UNITS or not self.low < self.high:
            raise UserError(
                f"intensity {self} is not valid: kind is window or percentile, unit one of {', '.join(UNITS)},"
                " and low is below high."
            )

    @property
    def colour(self) -> bool:
        """Whether images of the modality are in colour."""
        return self.unit == COLOUR

    @property
    def output_unit(self) -> str:
        """The unit of generated images: relative for percentiles of each image."""
        return self.unit if self.kind == "window" else RELATIVE

    @property
    def span(self) -> float:
        """Width of [-1, 1] in the unit of generated images."""
        return self.high - self.low if self.kind == "window" else 1.0

    @property
    def shown(self) -> str:
        """What is black and what is white in a picture of [-1, 1]."""
        if self.kind == "window":
            return f"{self.low:g} to {self.high:g} {self.unit}"
        return f"the {self.low:g}th to the {self.high:g}th percentile of each image"


@dataclass(frozen=True)
class ImageSpec:
    """The model's image space.

    Attributes:
        size: pixels of each spatial axis, e.g. (64, 64) rows and columns, or three axes in RAS order; with `patch`,
            those of a patch.
        channels: 1, or 3 if any modality is in colour (grey images are then repeated in three channels).
        resize: pad (same aspect, border at the lowest value), crop (same aspect, centre), stretch, or none (files must
            have exactly `size`).
        intensity: modality -> its intensity map.
        spacing: mm of each spatial axis after resampling, or None for 2-D images without spacing.
        orientation: axis codes of volumes after reorientation ("RAS"), or None in 2-D.
        patch: the model takes patches of images of any size, which are neither padded nor cropped; the resize rule is
            ignored.
    """

    size: tuple[int, ...]
    channels: int
    resize: str
    intensity: Mapping[str, Intensity]
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    patch: bool = False

    def __post_init__(self) -> None:
        if self.resize not in RESIZE_RULES:
            raise UserError(f"resize rule {self.resize!r} is not known; allowed: {', '.join(RESIZE_RULES)}.")
        if len(self.size) not in (2, 3) or min(self.size) < 1 or self.channels not in (1, 3):
            raise UserError(
                f"image size {self.size} with {self.channels} channels: give 2 or 3 axes and 1 or 3 channels."
            )
        if self.spacing is not None and (len(self.spacing) != len(self.size) or min(self.spacing) <= 0):
            raise UserError(f"spacing {self.spacing}: give mm above 0 for each of {len(self.size)} axes.")

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.size)

    @property
    def pads(self) -> bool:
        """Whether images of some shapes get a border of padding."""
        return not self.patch and (self.spacing is not None or self.resize == "pad")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image array, or of one patch: (channels, *size)."""
        return (self.channels, *self.size)

    def of(self, modality: str) -> Intensity:
        """The intensity map of `modality`.

        Raises:
            UserError: an unknown modality; lists the known ones.
        """
        if modality not in self.intensity:
            raise UserError(never_trained("modality", modality, sorted(self.intensity)))
        return self.intensity[modality]

    def fingerprint(self) -> str:
        """A hash of everything in the spec."""
        return hash_json(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values = asdict(self)
        values["intensity"] = {name: asdict(entry) for name, entry in sorted(self.intensity.items())}
        if not self.patch:
            # Specs without patches keep their fingerprints from before this field existed.
            del values["patch"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ImageSpec":
        """From the values of `to_dict`.

        Raises:
            UserError: a field is missing or unknown.
        """
        names = {field.name for field in fields(cls)} - {"patch"}
        if set(values) - {"patch"} != names:
            raise UserError(
                f"image spec has fields {sorted(values)}, expected {sorted(names)}: it was truncated or edited."
            )
        return cls(
            size=tuple(values["size"]),
            channels=values["channels"],
            resize=values["resize"],
            intensity={name: Intensity(**entry) for name, entry in values["intensity"].items()},
            spacing=tuple(values["spacing"]) if values["spacing"] else None,
            orientation=values["orientation"],
            patch=values.get("patch", False),
        )

    def require_same_space(self, other: "ImageSpec", mine: str, theirs: str) -> None:
        """Refuse to combine two specs that differ in shape, geometry or the intensity of a common modality.

        Raises:
            UserError: lists every difference.
        """
        differences = [
            f"{name} {getattr(self, name)} in {mine}, {getattr(other, name)} in {theirs}"
            for name in ("size", "channels", "resize", "spacing", "orientation", "patch")
            if getattr(self, name) != getattr(other, name)
        ]
        for modality in sorted(set(self.intensity) & set(other.intensity)):
            if self.intensity[modality] != other.intensity[modality]:
                differences.append(
                    f"intensity of {modality} {_brief(self.intensity[modality])} in {mine},"
                    f" {_brief(other.intensity[modality])} in {theirs}"
                )
        if differences:
            raise UserError("image specs differ: " + "; ".join(differences) + ". Use data and models of one spec.")


def _brief(intensity: Intensity) -> str:
    return f"{intensity.kind} {intensity.low:g} to {intensity.high:g} ({intensity.unit})"
