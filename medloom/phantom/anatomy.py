"""Visits of a patient, and the sizes, positions and densities of the thorax at each, in mm and HU."""

import math
from dataclasses import dataclass

from medloom.core.seeds import mix, numpy_generator
from medloom.phantom.causal import NORMAL, Patient

# Level of a 2-D cohort's slice: through the heart, where all lesions are visible.
SLICE_LEVEL = -42.0
TOP, BASE = 140.0, -135.0
SUPINE, ERECT = "supine", "erect"
DAYS_BETWEEN = {"pneumonia": 21, "effusion": 30, "nodule": 180, "IPF": 270, "CTD-ILD": 270}
USUAL_DAYS = 240
CLEARED = 0.15  # remaining size of a disease below which nothing is visible


@dataclass(frozen=True)
class Visit:
    """What varies between acquisitions of a patient.

    Attributes:
        index: of the visit, from 0.
        days: since the first visit.
        inspiration: air in the lungs relative to the reference.
        shift: of the patient from the centre, in mm to the left, back and head.
        turn: rotation about the long axis, in radians.
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
    """One acquisition; a `repeat` of the same visit differs in position, inspiration and scanner noise only."""
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


def visits_of(patient: Patient, count: int) -> tuple[Visit, ...]:
    """The first `count` visits of a patient, at intervals that depend on the disease, with its size on each day."""
    rng = numpy_generator("phantom", "days", patient.cohort, patient.number)
    usual = DAYS_BETWEEN.get(patient.values["diagnosis"], USUAL_DAYS)
    gaps = usual * rng.uniform(0.6, 1.6, count)
    days = [0, *(round(sum(gaps[:index])) for index in range(1, count))]
    return tuple(make_visit(patient, index, day, size_after(patient, day)) for index, day in enumerate(days))


def size_after(patient: Patient, days: int) -> float:
    """Factor on the severity after a number of days.

    A pneumonia clears (median 3 weeks); an effusion resolves in about two of three patients and grows in the others; a
    nodule's volume doubles in 180 to 900 days, so that its radius grows at a third of that rate; fibrosis adds 5 to
    15 % per year.
    """
    diagnosis, pace = patient.values["diagnosis"], NORMAL.cdf(patient.noise["progress"])
    if diagnosis == "pneumonia":
        factor = math.exp(-days / (12 + 20 * pace))
    elif diagnosis == "effusion":
        factor = math.exp(-days / (15 + 45 * pace)) if pace < 0.66 else 1 + days / 90 * pace
    elif diagnosis == "nodule":
        factor = 2 ** (days / (3 * (180 + 720 * pace)))
    elif diagnosis in ("IPF", "CTD-ILD"):
        factor = 1 + (0.05 + 0.10 * pace) * days / 365
    else:
        return 1.0
    return factor if factor > CLEARED else 0.0


def retest(patient: Patient, visit: Visit) -> Visit:
    """The same visit acquired again: only position, inspiration and scanner noise differ."""
    return make_visit(patient, visit.index, visit.days, visit.size, repeat=1)


@dataclass(frozen=True)
class Anatomy:
    """Sizes and positions; lengths in mm, x to the patient's left, y to the back, z to the head.

    Attributes:
        textures: seed of the patient's own patterns (vessels, holes, honeycombs).
        width: half-width of the thoracic cavity at its widest.
        depth: half-depth of the cavity.
        muscle: thickness of the chest wall without fat.
        fat: thickness of the fat under the skin.
        lung: HU of parenchyma without emphysema.
        emphysema: lost fraction of lung tissue.
        bone: HU of trabecular bone.
        heart: half-width of the heart.
        calcium: HU of the wall of the aorta.
        rib_phase: position of the ribs along z, radians.
        side: +1 for a one-sided lesion on the left, -1 on the right, 0 none.
        effusion: fraction of the pleural depth that is filled with fluid.
        pneumonia: radius of the consolidation.
        nodule: radius of the nodule.
        position: centre of a pneumonia or nodule, from the middle of its lung.
        fibrosis: HU that fibrosis adds at its worst.
        honeycomb: whether fibrosis destroys (IPF) or veils (CTD-ILD) the lung.
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
    position: tuple[float, float, float]
    fibrosis: float
    honeycomb: bool


def anatomy_of(patient: Patient, visit: Visit) -> Anatomy:
    """The anatomy of a patient at a visit; inspiration widens the cavity and thins the lung."""
    values, noise = patient.values, patient.noise
    tall = values["height"] / 170
    stretch = visit.inspiration ** (1 / 3)
    width = (128.0 * tall + 5.0 * noise["width"]) * stretch
    # Mass is conserved: the same tissue in more air.
    lung = -1000.0 + (values["lung_density"] + 1000.0) / visit.inspiration
    # Of a lesion within its lung: fractions of the half-axes across and along, and mm up.
    across, along, up = (2 * NORMAL.cdf(noise[f"place {axis}"]) - 1 for axis in ("across", "along", "up"))
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
        position=(0.35 * across, 0.5 * along, 2.0 * up),
        fibrosis=120.0 + 260.0 * severity if diagnosis in ("IPF", "CTD-ILD") else 0.0,
        honeycomb=diagnosis == "IPF",
    )
