"""The renderer: a thorax on any grid of points, in HU, with its label map."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medloom.phantom.anatomy import BASE, ERECT, TOP, Anatomy
from medloom.phantom.shapes import Array, Points, ellipsoid, inside, smooth_noise, superellipse

LABELS = {
    "outside": 0,
    "body": 1,
    "thoracic cavity": 2,
    "left lung": 3,
    "right lung": 4,
    "airway": 5,
    "heart": 6,
    "bone": 7,
    "lesion": 8,
}
AIR, FAT, MUSCLE, BLOOD, FLUID, LIVER, CARTILAGE, CORTICAL = -1000.0, -100.0, 55.0, 42.0, 8.0, 60.0, 110.0, 420.0
EMPHYSEMA, CONSOLIDATION, NODULE = -985.0, 25.0, 45.0
SCANNER_NOISE = 10.0  # HU
RIB_SPACING, RIB_FALL = 30.0, 42.0
HEART_LEVEL, HEART_LEAN = -45.0, 0.35
NO_AXIS = np.inf
HALF = 0.5


@dataclass(frozen=True, eq=False)
class Rendering:
    """An image of a thorax.

    Attributes:
        hu: float32, of the points' shape.
        labels: uint8, values of LABELS.
    """

    hu: NDArray[np.float32]
    labels: NDArray[np.uint8]


class _Canvas:
    """Materials are painted in order; each covers earlier ones by the fraction of the voxel that it fills."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.hu = np.full(shape, AIR)
        self.labels = np.zeros(shape, dtype=np.uint8)

    def paint(self, fraction: Array, hu: float | Array, label: str | None = None) -> None:
        self.hu += fraction * (hu - self.hu)
        if label is not None:
            self.labels[np.broadcast_to(fraction, self.labels.shape) > HALF] = LABELS[label]


def render(anatomy: Anatomy, points: Points, posture: str = "supine", scanner: int | None = None) -> Rendering:
    """Render a thorax.

    Args:
        anatomy: of the patient at the visit.
        points: grid in the patient's own axes (`Points.moved`).
        posture: supine (fluid lies at the back) or erect (at the base).
        scanner: seed of the scanner's noise; None for no noise.

    Returns:
        HU and labels.
    """
    canvas = _Canvas(points.shape)
    # Signed distance from the inside of the ribs; the cavity narrows towards its apex.
    up = np.clip((points.z - BASE) / (TOP - BASE), 0.0, None)
    narrow = np.sqrt(np.clip(1 - np.clip((up - 0.15) / 0.85, 0, 1) ** 2.6, 1e-4, 1))
    ring = superellipse(points.x, points.y, anatomy.width * narrow, anatomy.depth * (0.25 + 0.75 * narrow), 2.3)
    cavity = np.maximum(ring, points.z - TOP)
    wall = anatomy.muscle + 11.0
    skin = superellipse(
        points.x, points.y, anatomy.width + wall + 1.4 * anatomy.fat, anatomy.depth + wall + anatomy.fat, 2.35
    )
    muscle = superellipse(points.x, points.y, anatomy.width + wall, anatomy.depth + wall, 2.35)
    for distance, hu, label in (
        (skin, FAT, "body"),
        (np.abs(skin + 1.0) - 1.0, 20.0, "body"),
        (muscle, MUSCLE, "body"),
        (np.abs(cavity - 5.0) - 2.0, -30.0, None),
        (cavity, 30.0, "thoracic cavity"),
    ):
        canvas.paint(inside(distance, points.edge), hu, label)
    abdomen = inside(points.z + 95.0 + 0 * points.x, 40.0) * inside(cavity, points.edge)
    canvas.paint(abdomen * inside(points.x - 25.0, 20.0), LIVER)
    lung = _lungs(canvas, anatomy, points, cavity)
    _lesions(canvas, anatomy, points, cavity, lung, posture)
    _heart(canvas, anatomy, points, cavity)
    _airways(canvas, points, cavity)
    _bones(canvas, anatomy, points, cavity)
    if scanner is not None:
        canvas.hu += SCANNER_NOISE * np.random.Generator(np.random.Philox(scanner)).standard_normal(points.shape)
    return Rendering(np.clip(canvas.hu, -1024, 3000).astype(np.float32), canvas.labels)


def _lungs(canvas: _Canvas, anatomy: Anatomy, points: Points, cavity: Array) -> Array:
    """Paint both lungs; the fraction of each voxel that they fill."""
    # Half-width of the mediastinum, wider at the hila and in front of the spine.
    hilum = 12.0 * np.exp(-(((points.z - 5) / 40) ** 2) - ((points.y - 5) / 35) ** 2)
    spine = 10.0 * np.exp(-(((points.y - anatomy.depth) / 22) ** 2))
    front = 8.0 * np.clip(-points.y / anatomy.depth - 0.55, 0, None)
    gap = 17.0 + hilum + spine - front - np.abs(points.x)
    # Height of the domes of the diaphragm; the right dome is higher.
    right = points.x < 0
    middle = np.where(right, -0.5, 0.5) * anatomy.width
    across, along = (points.x - middle) / (0.62 * anatomy.width), points.y / (1.1 * anatomy.depth)
    dome = np.clip(1 - across**2 - along**2, 0, None)
    ground = BASE + 20 + np.where(right, 42.0, 32.0) * dome - points.z
    lung = inside(np.maximum(np.maximum(cavity + 2.0, gap), ground), points.edge)
    fine = smooth_noise(points, 22.0, 12, "fine", *anatomy.textures)
    tissue = anatomy.lung + 0.22 * (points.y - 10.0) + 7.0 * fine
    if anatomy.emphysema:
        # Worse in the upper lung; half of the loss is too fine to see, half is in holes. Its mean is the lost fraction
        # times (lung - air), as exp(a n - a^2 / 2) has mean 1 for normal n.
        above = np.clip(1.15 + 0.004 * points.z, 0.6, 1.8)
        depth = (EMPHYSEMA - tissue) * anatomy.emphysema * above
        pits = np.exp(np.clip(smooth_noise(points, 16.0, 16, "holes", *anatomy.textures), -2.5, 2.5) - HALF)
        tissue = tissue + np.maximum(depth * (0.65 + 0.35 * pits), EMPHYSEMA - tissue)
    tissue = _with_fibrosis(anatomy, points, cavity, tissue)
    # Vessels: branching bright threads where two smooth fields are both near zero.
    first, second = (smooth_noise(points, 46.0, 12, "vessel", field, *anatomy.textures) for field in (0, 1))
    calibre = np.clip(0.26 - 0.18 * (np.hypot(np.abs(points.x) - 30.0, points.y) / anatomy.width), 0.06, None)
    blurred = np.hypot(calibre, 0.03 * points.edge)
    thread = (calibre / blurred) ** 2 * np.exp(-(first**2 + second**2) / (2 * blurred**2))
    hu = tissue + thread * (BLOOD - tissue)
    for label, side in (("left lung", 1), ("right lung", -1)):
        canvas.paint(lung * (side * points.x > 0), hu, label)
    return lung


def _with_fibrosis(anatomy: Anatomy, points: Points, cavity: Array, tissue: Array) -> Array:
    if anatomy.fibrosis == 0:
        return tissue
    basal = np.clip(0.9 - 0.006 * (points.z + 40.0), 0.15, 1.2)
    behind = np.clip(0.75 + 0.5 * points.y / anatomy.depth, 0.25, 1.2)
    if anatomy.honeycomb:
        walls = np.abs(smooth_noise(points, 18.0, 14, "honeycomb", *anatomy.textures))
        rim = np.exp(np.minimum(cavity, 0.0) / 20.0)
        return tissue + anatomy.fibrosis * rim * basal * behind * (1.5 - 0.9 * np.clip(walls, 0, 1.5))
    patchy = np.clip(1.0 + 0.5 * smooth_noise(points, 50.0, 12, "veil", *anatomy.textures), 0, None)
    spared = 1 - 0.7 * np.exp(np.minimum(cavity, 0.0) / 6.0)
    return tissue + 0.6 * anatomy.fibrosis * basal * behind * patchy * spared


def _heart(canvas: _Canvas, anatomy: Anatomy, points: Points, cavity: Array) -> None:
    within = inside(cavity + 3.0, points.edge)
    # An ellipsoid of half-width `anatomy.heart` whose apex points left and forward, a third of it right of the midline,
    # in a coat of fat. In the sheared coordinate y' = y + s x its axes are parallel to the grid.
    half = anatomy.heart
    centre = (half / 3, -0.26 * anatomy.depth, HEART_LEVEL)
    leaning = Points(points.x, points.y + HEART_LEAN * (points.x - centre[0]), points.z, points.edge)
    for coat, hu, label in ((3.0, -60.0, "thoracic cavity"), (0.0, BLOOD, "heart")):
        distance = ellipsoid(leaning, centre, (half + coat, 0.5 * anatomy.depth + coat, 62.0 + coat))
        canvas.paint(inside(distance, points.edge) * within, hu, label)
    aorta = ellipsoid(points, (24.0, 0.62 * anatomy.depth, 0.0), (13.0, 13.0, NO_AXIS))
    above = inside(points.z - 75.0 + 0 * points.x, points.edge) * within
    canvas.paint(inside(aorta, points.edge) * above, BLOOD, "thoracic cavity")
    canvas.paint(0.5 * inside(np.abs(aorta) - 1.0, points.edge) * above, anatomy.calcium)


def _airways(canvas: _Canvas, points: Points, cavity: Array) -> None:
    within = inside(cavity, points.edge)
    above = inside(30.0 - points.z + 0 * points.x, points.edge)
    trachea = ellipsoid(points, (0.0, 8.0, 0.0), (9.0, 8.0, NO_AXIS))
    canvas.paint(inside(trachea, points.edge) * above * within, AIR, "airway")
    down = np.clip(30.0 - points.z, 0.0, 90.0)
    calibre = 7.0 - 0.035 * down
    for side in (-1, 1):
        bronchus = ellipsoid(points, (side * (4.0 + 0.62 * down), 8.0 + 0.2 * down, 0.0), (calibre, calibre, NO_AXIS))
        canvas.paint(inside(bronchus, points.edge) * (1 - above) * (points.z > -62.0) * within, AIR, "airway")


def _lesions(canvas: _Canvas, anatomy: Anatomy, points: Points, cavity: Array, lung: Array, posture: str) -> None:
    if anatomy.nodule > 0:
        solid = ellipsoid(points, lesion_centre(anatomy), (anatomy.nodule,) * 3)
        canvas.paint(inside(solid, points.edge) * lung, NODULE, "lesion")
    if anatomy.pneumonia > 0:
        irregular = smooth_noise(points, 40.0, 12, "consolidation", *anatomy.textures)
        bronchograms = np.clip(smooth_noise(points, 20.0, 10, "bronchogram", *anatomy.textures) - 0.8, 0, 1)
        solid = ellipsoid(points, lesion_centre(anatomy), (anatomy.pneumonia,) * 3) + 7.0 * irregular
        canvas.paint(inside(solid, 10.0 + points.edge) * lung, CONSOLIDATION - 400 * bronchograms, "lesion")
    if anatomy.effusion > 0:
        # Free fluid of one side: below a level, with a meniscus that rises along the wall.
        wall = 9.0 * np.exp(np.minimum(cavity, 0.0) / 8.0)
        if posture == ERECT:
            above = points.z - (BASE + 10 + anatomy.effusion * 0.62 * (TOP - BASE)) - 2 * wall
        else:
            above = (0.92 - 1.25 * anatomy.effusion) * anatomy.depth - points.y - wall
        fluid = inside(above, points.edge + 3.0) * (anatomy.side * points.x > 0)
        canvas.paint(fluid * lung, FLUID, "lesion")


def lesion_centre(anatomy: Anatomy) -> tuple[float, float, float]:
    """Centre of a pneumonia or nodule, mm."""
    across, along, up = anatomy.position
    x = anatomy.side * (0.56 + 0.5 * across) * anatomy.width
    return x, (0.15 + 0.7 * along) * anatomy.depth, -42.0 + up


def _bones(canvas: _Canvas, anatomy: Anatomy, points: Points, cavity: Array) -> None:
    # Ribs: rings around the cavity that fall from back to front, with front ends of cartilage.
    forward = 0.5 - 0.5 * points.y / anatomy.depth
    phase = 2 * np.pi * (points.z + RIB_FALL * forward + 4 * anatomy.rib_phase) / RIB_SPACING
    # Half-height of 6 mm, as a distance along z.
    along = (np.abs((phase / (2 * np.pi)) % 1.0 - HALF) * RIB_SPACING) - 6.0
    ribs = inside(np.maximum(along, np.abs(cavity - 5.5) - 4.0), points.edge) * (points.z < TOP - 6)
    bony = np.clip((1.05 - forward) / 0.15, 0, 1)
    canvas.paint(ribs, CARTILAGE + bony * (anatomy.bone + 120.0 - CARTILAGE), "bone")
    back, hard = anatomy.depth + 4.0, anatomy.bone + 60.0
    vertebra = ellipsoid(points, (0.0, back, 0.0), (18.0, 14.0, NO_AXIS))
    disc = np.clip(6 * np.abs(np.sin(np.pi * points.z / 27.0)), 0, 1)
    canvas.paint(inside(vertebra, points.edge), CARTILAGE + disc * (anatomy.bone - CARTILAGE), "bone")
    cortex = inside(np.abs(vertebra + 1.0) - 1.0, points.edge)
    canvas.paint(cortex, anatomy.bone + 0.5 * (CORTICAL - anatomy.bone), "bone")
    for centre, axes, hu, label in (
        ((0.0, back + 20.0, 0.0), (15.0, 11.0, NO_AXIS), hard, "bone"),  # arch
        ((0.0, back + 36.0, 0.0), (3.5, 13.0, NO_AXIS), hard, "bone"),  # spinous process
        ((0.0, back + 19.0, 0.0), (9.0, 7.0, NO_AXIS), 25.0, "body"),  # canal
        ((0.0, -anatomy.depth - 8.0, 10.0), (17.0, 6.0, 85.0), anatomy.bone, "bone"),  # sternum
    ):
        canvas.paint(inside(ellipsoid(points, centre, axes), points.edge), hu, label)
