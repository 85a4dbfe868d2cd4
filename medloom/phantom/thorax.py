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
# Labels whose place a cause changes; the others are its non-descendants and may be held in a total effect.
DESCENDANT_LABELS = {
    "age": ("left lung", "right lung", "heart", "lesion"),
    "sex": tuple(LABELS)[1:],
    "smoking": ("left lung", "right lung", "heart", "lesion"),
    "pack_years": ("left lung", "right lung", "heart", "lesion"),
    "diagnosis": ("left lung", "right lung", "heart", "lesion"),
    "extent": ("left lung", "right lung", "heart", "lesion"),
    "side": ("left lung", "right lung", "heart", "lesion"),
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
    """Materials are painted in order; each covers what was there by its share of the voxel."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.hu = np.full(shape, AIR)
        self.labels = np.zeros(shape, dtype=np.uint8)

    def paint(self, share: Array, hu: float | Array, label: str | None = None) -> None:
        self.hu += share * (hu - self.hu)
        if label is not None:
            self.labels[np.broadcast_to(share, self.labels.shape) > HALF] = LABELS[label]


def render(anatomy: Anatomy, points: Points, posture: str = "supine", scanner: int | None = None) -> Rendering:
    """Render.

    Args:
        anatomy: of the patient at the visit.
        points: where, in the patient's own axes (`Points.moved`).
        posture: supine (fluid lies at the back) or erect (at the base).
        scanner: seed of the scanner's noise; None leaves it out.

    Returns:
        HU and labels.
    """
    canvas = _Canvas(points.shape)
    cavity = _cavity(anatomy, points)
    _chest_wall(canvas, anatomy, points, cavity)
    _abdomen(canvas, points, cavity)
    lung = _lungs(canvas, anatomy, points, cavity)
    _lesions(canvas, anatomy, points, cavity, lung, posture)
    _heart(canvas, anatomy, points, cavity)
    _airways(canvas, points, cavity)
    _bones(canvas, anatomy, points, cavity)
    if scanner is not None:
        canvas.hu += SCANNER_NOISE * np.random.Generator(np.random.Philox(scanner)).standard_normal(points.shape)
    return Rendering(np.clip(canvas.hu, -1024, 3000).astype(np.float32), canvas.labels)


def _cavity(anatomy: Anatomy, points: Points) -> Array:
    """Signed distance to the inside of the ribs; the cavity narrows to its apex."""
    up = np.clip((points.z - BASE) / (TOP - BASE), 0.0, None)
    narrow = np.sqrt(np.clip(1 - np.clip((up - 0.15) / 0.85, 0, 1) ** 2.6, 1e-4, 1))
    ring = superellipse(points.x, points.y, anatomy.width * narrow, anatomy.depth * (0.25 + 0.75 * narrow), 2.3)
    return np.asarray(np.maximum(ring, points.z - TOP))


def _diaphragm(points: Points, anatomy: Anatomy) -> Array:
    """Height of the domes, mm; the right one is higher."""
    right = points.x < 0
    middle = np.where(right, -0.5, 0.5) * anatomy.width
    across, along = (points.x - middle) / (0.62 * anatomy.width), points.y / (1.1 * anatomy.depth)
    dome = np.clip(1 - across**2 - along**2, 0, None)
    return np.asarray(BASE + 20 + np.where(right, 42.0, 32.0) * dome)


def _mediastinum(anatomy: Anatomy, points: Points) -> Array:
    """Half-width of what lies between the lungs, wider at the hila and before the spine."""
    hilum = 12.0 * np.exp(-(((points.z - 5) / 40) ** 2) - ((points.y - 5) / 35) ** 2)
    spine = 10.0 * np.exp(-(((points.y - anatomy.depth) / 22) ** 2))
    front = 8.0 * np.clip(-points.y / anatomy.depth - 0.55, 0, None)
    return np.asarray(17.0 + hilum + spine - front)


def _chest_wall(canvas: _Canvas, anatomy: Anatomy, points: Points, cavity: Array) -> None:
    wall = anatomy.muscle + 11.0
    skin = superellipse(
        points.x, points.y, anatomy.width + wall + 1.4 * anatomy.fat, anatomy.depth + wall + anatomy.fat, 2.35
    )
    muscle = superellipse(points.x, points.y, anatomy.width + wall, anatomy.depth + wall, 2.35)
    canvas.paint(inside(skin, points.edge), FAT, "body")
    canvas.paint(inside(np.abs(skin + 1.0) - 1.0, points.edge), 20.0, "body")
    canvas.paint(inside(muscle, points.edge), MUSCLE, "body")
    canvas.paint(inside(np.abs(cavity - 5.0) - 2.0, points.edge), -30.0)
    canvas.paint(inside(cavity, points.edge), 30.0, "thoracic cavity")


def _abdomen(canvas: _Canvas, points: Points, cavity: Array) -> None:
    below = inside(points.z + 95.0 + 0 * points.x, 40.0) * inside(cavity, points.edge)
    liver = inside(points.x - 25.0, 20.0)
    canvas.paint(below * liver, LIVER)


def _lungs(canvas: _Canvas, anatomy: Anatomy, points: Points, cavity: Array) -> Array:
    """Paint both lungs; returns their share of each voxel."""
    gap = _mediastinum(anatomy, points) - np.abs(points.x)
    ground = _diaphragm(points, anatomy) - points.z
    share = inside(np.maximum(np.maximum(cavity + 2.0, gap), ground), points.edge)
    hu = _parenchyma(anatomy, points, cavity)
    for label, side in (("left lung", 1), ("right lung", -1)):
        canvas.paint(share * (side * points.x > 0), hu, label)
    return share


def _parenchyma(anatomy: Anatomy, points: Points, cavity: Array) -> Array:
    fine = smooth_noise(points, 22.0, 12, "fine", *anatomy.textures)
    tissue = anatomy.lung + 0.22 * (points.y - 10.0) + 7.0 * fine
    tissue = tissue + _loss(anatomy, points, tissue)
    tissue = _fibrosis(anatomy, points, cavity, tissue)
    return _vessels(anatomy, points, tissue)


def _loss(anatomy: Anatomy, points: Points, tissue: Array) -> Array:
    """Emphysema, worse above: half of it too fine to see, half in holes. Mean loss is share x (lung - air)."""
    if anatomy.emphysema == 0:
        return np.zeros(points.shape)
    above = np.clip(1.15 + 0.004 * points.z, 0.6, 1.8)
    depth = (EMPHYSEMA - tissue) * anatomy.emphysema * above
    holes = smooth_noise(points, 16.0, 16, "holes", *anatomy.textures)
    # exp(a n - a^2 / 2) has mean 1 for normal n.
    pits = np.exp(np.clip(holes, -2.5, 2.5) - HALF)
    return np.maximum(depth * (0.65 + 0.35 * pits), EMPHYSEMA - tissue)


def _vessels(anatomy: Anatomy, points: Points, tissue: Array) -> Array:
    """Branching bright threads: where two smooth fields are both near zero."""
    first = smooth_noise(points, 46.0, 12, "vessel", 0, *anatomy.textures)
    second = smooth_noise(points, 46.0, 12, "vessel", 1, *anatomy.textures)
    hilum = np.hypot(np.abs(points.x) - 30.0, points.y) / anatomy.width
    calibre = np.clip(0.26 - 0.18 * hilum, 0.06, None)
    blurred = np.hypot(calibre, 0.03 * points.edge)
    thread = (calibre / blurred) ** 2 * np.exp(-(first**2 + second**2) / (2 * blurred**2))
    return tissue + thread * (BLOOD - tissue)


def _fibrosis(anatomy: Anatomy, points: Points, cavity: Array, tissue: Array) -> Array:
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
    fat = heart_distance(anatomy, points, 3.0)
    canvas.paint(inside(fat, points.edge) * within, -60.0, "thoracic cavity")
    canvas.paint(inside(heart_distance(anatomy, points), points.edge) * within, BLOOD, "heart")
    aorta = ellipsoid(points, (24.0, 0.62 * anatomy.depth, 0.0), (13.0, 13.0, NO_AXIS))
    above = inside(points.z - 75.0 + 0 * points.x, points.edge) * within
    canvas.paint(inside(aorta, points.edge) * above, BLOOD, "thoracic cavity")
    canvas.paint(0.5 * inside(np.abs(aorta) - 1.0, points.edge) * above, anatomy.calcium)


def heart_distance(anatomy: Anatomy, points: Points, coat: float = 0.0) -> Array:
    """Signed distance to the heart: an ellipsoid of half-width `anatomy.heart` whose apex points left and forward.

    A third of it lies right of the midline. In the sheared axis y' = y + s x it is plain.
    """
    half = anatomy.heart
    centre = (half / 3, -0.26 * anatomy.depth, HEART_LEVEL)
    leaning = Points(points.x, points.y + HEART_LEAN * (points.x - centre[0]), points.z, points.edge)
    return ellipsoid(leaning, centre, (half + coat, 0.5 * anatomy.depth + coat, 62.0 + coat))


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
        ragged = smooth_noise(points, 40.0, 12, "consolidation", *anatomy.textures)
        bronchograms = np.clip(smooth_noise(points, 20.0, 10, "bronchogram", *anatomy.textures) - 0.8, 0, 1)
        solid = ellipsoid(points, lesion_centre(anatomy), (anatomy.pneumonia,) * 3) + 7.0 * ragged
        canvas.paint(inside(solid, 10.0 + points.edge) * lung, CONSOLIDATION - 400 * bronchograms, "lesion")
    if anatomy.effusion > 0:
        share = _fluid(anatomy, points, cavity, posture) * lung
        canvas.paint(share, FLUID, "lesion")


def lesion_centre(anatomy: Anatomy) -> tuple[float, float, float]:
    """Centre of a pneumonia or nodule, mm."""
    across, along, up = anatomy.place
    x = anatomy.side * (0.56 + 0.5 * across) * anatomy.width
    return x, (0.15 + 0.7 * along) * anatomy.depth, -42.0 + up


def _fluid(anatomy: Anatomy, points: Points, cavity: Array, posture: str) -> Array:
    """Free fluid of one side: below a level, with a meniscus that rises along the wall."""
    own = anatomy.side * points.x > 0
    wall = 9.0 * np.exp(np.minimum(cavity, 0.0) / 8.0)
    if posture == ERECT:
        level = BASE + 10 + anatomy.effusion * 0.62 * (TOP - BASE)
        above = points.z - level - 2 * wall
    else:
        level = (0.92 - 1.25 * anatomy.effusion) * anatomy.depth
        above = level - points.y - wall
    return np.asarray(inside(above, points.edge + 3.0) * own)


def _bones(canvas: _Canvas, anatomy: Anatomy, points: Points, cavity: Array) -> None:
    _ribs(canvas, anatomy, points, cavity)
    back = anatomy.depth + 4.0
    vertebra = ellipsoid(points, (0.0, back, 0.0), (18.0, 14.0, NO_AXIS))
    disc = np.clip(6 * np.abs(np.sin(np.pi * points.z / 27.0)), 0, 1)
    canvas.paint(inside(vertebra, points.edge), CARTILAGE + disc * (anatomy.bone - CARTILAGE), "bone")
    shell = anatomy.bone + 0.5 * (CORTICAL - anatomy.bone)
    canvas.paint(inside(np.abs(vertebra + 1.0) - 1.0, points.edge), shell, "bone")
    arch = ellipsoid(points, (0.0, back + 20.0, 0.0), (15.0, 11.0, NO_AXIS))
    canvas.paint(inside(arch, points.edge), anatomy.bone + 60.0, "bone")
    spine = ellipsoid(points, (0.0, back + 36.0, 0.0), (3.5, 13.0, NO_AXIS))
    canvas.paint(inside(spine, points.edge), anatomy.bone + 60.0, "bone")
    canal = ellipsoid(points, (0.0, back + 19.0, 0.0), (9.0, 7.0, NO_AXIS))
    canvas.paint(inside(canal, points.edge), 25.0, "body")
    sternum = ellipsoid(points, (0.0, -anatomy.depth - 8.0, 10.0), (17.0, 6.0, 85.0))
    canvas.paint(inside(sternum, points.edge), anatomy.bone, "bone")


def _ribs(canvas: _Canvas, anatomy: Anatomy, points: Points, cavity: Array) -> None:
    """Rings around the cavity that fall from back to front, their front ends of cartilage."""
    forward = 0.5 - 0.5 * points.y / anatomy.depth
    phase = 2 * np.pi * (points.z + RIB_FALL * forward + 4 * anatomy.rib_phase) / RIB_SPACING
    # Half-height of 6 mm, as a distance along z.
    beside = (np.abs((phase / (2 * np.pi)) % 1.0 - HALF) * RIB_SPACING) - 6.0
    ring = np.abs(cavity - 5.5) - 4.0
    solid = np.maximum(beside, ring)
    bony = np.clip((1.05 - forward) / 0.15, 0, 1)
    share = inside(solid, points.edge) * (points.z < TOP - 6)
    canvas.paint(share, CARTILAGE + bony * (anatomy.bone + 120.0 - CARTILAGE), "bone")
