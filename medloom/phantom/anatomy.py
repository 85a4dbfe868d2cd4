"""From a patient and a visit to the sizes and places of everything in the thorax, in mm and HU."""

from dataclasses import dataclass

from medloom.core.seeds import mix, numpy_generator
from medloom.phantom.causal import NORMAL, Noise, Patient

# Where a 2-D cohort's slice lies: through the heart, where all lesions can be seen.
SLICE_LEVEL = -42.0
TOP, BASE = 140.0, -135.0
SUPINE, ERECT = "supine", "erect"


@dataclass(frozen=True)
class Visit:
    """What belongs to one acquisition and not to the patient.

    Attributes:
        index: of the visit, from 0.
        days: since the first.
        inspiration: air in the lungs as a share of the reference.
        shift: mm that the patient lies off the centre: left, back, head.
        turn: radians about the long axis.
        size: of the disease, a factor on its severity at the first visit.
        seed: of the scanner's noise.
    """

    index: int = 0
    days: int = 0
    inspiration: float = 1.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn: float = 0.0
    size: float = 1.0
    seed: int = 0


def make_visit(patient: Patient, index: int = 0, days: int = 0, size: float = 1.0, repeat: int = 0) -> Visit:
    """One acquisition; another `repeat` of the same visit differs in position, inspiration and scanner noise alone."""
    name = ("visit", patient.cohort, patient.number, index, repeat)
    draws = numpy_generator("phantom", *name).standard_normal(5).clip(-3, 3).tolist()
    return Visit(
        index=index,
        days=days,
        inspiration=1.0 + 0.06 * draws[0],
        shift=(4.0 * draws[1], 4.0 * draws[2], 1.5 * draws[3]),
        turn=0.03 * draws[4],
        size=size,
        seed=mix("scanner", *name),
    )


@dataclass(frozen=True)
class Anatomy:
    """Sizes and places; lengths in mm, x to the patient's left, y to the back, z to the head.

    Attributes:
        textures: seeds the patient's own patterns (vessels, holes, honeycombs).
        width: half-width of the thoracic cavity at its widest.
        depth: half-depth of the cavity.
        muscle: thickness of the chest wall without fat.
        fat: thickness of the fat under the skin.
        lung: HU of parenchyma, emphysema left out.
        emphysema: share of lung tissue that is lost.
        bone: HU of trabecular bone.
        heart: half-width of the heart.
        calcium: HU of the wall of the aorta.
        rib_phase: where the ribs lie along z, radians.
        side: +1 where a one-sided lesion is left, -1 right, 0 none.
        effusion: share of the pleural depth that fluid fills.
        pneumonia: radius of the consolidation.
        nodule: radius of the nodule.
        place: centre of a pneumonia or nodule, from the middle of its lung.
        fibrosis: HU that fibrosis adds where it is worst.
        honeycomb: whether it destroys (IPF) or veils (CTD-ILD).
    """

    textures: tuple[int, int]
    width: float
    depth: float
    muscle: float
    fat: float
    lung: float
    emphysema: float
    bone: float
    heart: float
    calcium: float
    rib_phase: float
    side: float
    effusion: float
    pneumonia: float
    nodule: float
    place: tuple[float, float, float]
    fibrosis: float
    honeycomb: bool


def anatomy_of(patient: Patient, visit: Visit) -> Anatomy:
    """The anatomy of a patient at a visit: inspiration widens the cavity and thins the lung."""
    values, noise = patient.values, patient.noise
    tall = values["height"] / 170
    stretch = visit.inspiration ** (1 / 3)
    width = (128.0 * tall + 5.0 * noise["width"]) * stretch
    # Mass is conserved: the same tissue in more air.
    lung = -1000.0 + (values["lung_density"] + 1000.0) / visit.inspiration
    diagnosis, severity = values["diagnosis"], values["severity"]
    return Anatomy(
        textures=(patient.cohort, patient.number),
        width=width,
        depth=(86.0 * tall + 4.0 * noise["depth"]) * stretch,
        muscle=15.0 + 2.0 * noise["muscle"],
        fat=12.0 + 3.0 * noise["fat"],
        lung=lung,
        emphysema=values["emphysema"],
        bone=values["bone_density"],
        heart=values["heart_ratio"] * (width / stretch),
        calcium=45.0 + 8.0 * max(0.0, values["age"] - 50.0),
        rib_phase=noise["tilt"],
        side={"left": 1.0, "right": -1.0}.get(values["side"], 0.0),
        effusion=0.15 + 0.6 * severity if diagnosis == "effusion" else 0.0,
        pneumonia=20.0 + 26.0 * severity if diagnosis == "pneumonia" else 0.0,
        nodule=6.0 + 10.0 * severity if diagnosis == "nodule" else 0.0,
        place=_place(noise),
        fibrosis=120.0 + 260.0 * severity if diagnosis in ("IPF", "CTD-ILD") else 0.0,
        honeycomb=diagnosis == "IPF",
    )


def _place(noise: Noise) -> tuple[float, float, float]:
    """Of a lesion within its lung, as shares of the half-axes across and along, and mm up."""
    across, along, up = (2 * NORMAL.cdf(noise[f"place {axis}"]) - 1 for axis in ("across", "along", "up"))
    return 0.35 * across, 0.5 * along, 2.0 * up
