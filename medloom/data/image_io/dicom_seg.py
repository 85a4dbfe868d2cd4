"""Reading DICOM segmentations: frames of segments become one label map, the segments' names are its classes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.spec import RELATIVE
from medloom.data.image_io.content import is_dicom
from medloom.data.image_io.dicom import SEGMENTATIONS
from medloom.data.image_io.dicom_dataset import open_dataset, present
from medloom.data.image_io.geometry import LPS_RAS, axis_codes, to_orientation, voxel_spacing
from medloom.data.image_io.reading import MAX_VOXELS, explained_reading, require_sane_size

if TYPE_CHECKING:
    from pydicom import Dataset

CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
# Positions of frames are this close, in steps, to an even grid.
ON_GRID = 0.05


def read_segmentation(path: Path) -> tuple[Image, dict[int, str]] | None:
    """A DICOM segmentation as a label map in RAS order, and the names of its labels; None for any other file.

    It covers the slices that have a segment, from the first to the last; `Image.partial` says so.

    Raises:
        UserError: fractional or overlapping segments, frames that are on no common grid, or contours.
    """
    if path.is_dir() or not path.is_file() or not is_dicom(path):
        return None
    with explained_reading(path, "DICOM"):
        kind = str(open_dataset(path, pixels=False).get("SOPClassUID", ""))
    if kind == CONTOURS:
        raise UserError(
            f"{path} holds contours (RT structure set), and no label map; draw them on the image's grid with another"
            " program, and give the NIfTI or DICOM segmentation."
        )
    if kind not in SEGMENTATIONS:
        return None
    with explained_reading(path, "DICOM"):
        return _label_map(path, open_dataset(path, pixels=True))


def _label_map(path: Path, data: "Dataset") -> tuple[Image, dict[int, str]]:
    import pydicom

    if data.get("SegmentationType") == "FRACTIONAL":
        raise UserError(f"{path} is a fractional segmentation, whose values are no labels; give a binary one.")
    # A segment 0 is the background of a label map.
    segments = [item for item in data.SegmentSequence if int(item.SegmentNumber) > 0]
    names = {int(item.SegmentNumber): str(item.get("SegmentLabel") or "") for item in segments}
    frames = pydicom.pixels.pixel_array(data)
    frames = frames[None] if frames.ndim == 2 else frames
    shared = data.SharedFunctionalGroupsSequence[0]
    cosines, measures = _orientation(shared, data), present(shared.PixelMeasuresSequence[0])
    rows_mm, columns_mm = (float(mm) for mm in measures.PixelSpacing)
    normal = np.cross(cosines[0], cosines[1])
    groups = data.PerFrameFunctionalGroupsSequence
    positions = np.array([group.PlanePositionSequence[0].ImagePositionPatient for group in groups], np.float64)
    places, step = _places(path, positions, normal, measures)
    require_sane_size(path, (*frames.shape[1:], int(places.max()) + 1), MAX_VOXELS)
    labels = np.zeros((*frames.shape[1:], int(places.max()) + 1), np.int16)
    for frame, place, group in zip(frames, places, groups, strict=True):
        stored = frame.astype(np.int16)
        if data.get("SegmentationType") != "LABELMAP":
            stored = (stored > 0) * np.int16(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        plane = labels[..., place]
        if ((plane > 0) & (stored > 0) & (plane != stored)).any():
            raise UserError(f"{path}: segments overlap, and a voxel has one label; give segments that do not.")
        np.copyto(plane, stored, where=stored > 0)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = cosines[1] * rows_mm, cosines[0] * columns_mm
    affine[:3, 2], affine[:3, 3] = normal * step, positions[np.argmin(positions @ normal)]
    affine = LPS_RAS @ affine
    volume, turned = to_orientation(labels, affine, "RAS", path)
    image = Image(
        volume[None].astype(np.float32),
        RELATIVE,
        spacing=voxel_spacing(turned),
        affine=turned,
        stored_axes=axis_codes(affine),
        partial=True,
        frame_of_reference=str(data.get("FrameOfReferenceUID") or "") or None,
    )
    return image, names


def _orientation(shared: "Dataset", data: "Dataset") -> NDArray[np.float64]:
    group = shared if "PlaneOrientationSequence" in shared else data.PerFrameFunctionalGroupsSequence[0]
    return np.array(group.PlaneOrientationSequence[0].ImageOrientationPatient, np.float64).reshape(2, 3)


def _places(
    path: Path, positions: NDArray[np.float64], normal: NDArray[np.float64], measures: "Dataset"
) -> tuple[NDArray[np.intp], float]:
    """The number of each frame's slice, from 0, and the distance between slices in mm.

    Raises:
        UserError: no even grid.
    """
    heights = positions @ normal
    distances = np.diff(np.unique(np.round(heights, 4)))
    stated = float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0)
    # The stated distance counts where frames agree with it: slices without a segment have no frame.
    for step in (stated, float(distances.min(initial=np.inf))):
        steps = (heights - heights.min()) / step
        sideways = positions - positions[0] - np.outer(heights - heights[0], normal)
        if np.abs(steps - np.round(steps)).max() <= ON_GRID and np.abs(sideways).max() <= ON_GRID * step:
            return np.round(steps).astype(np.intp), step
    raise UserError(f"{path}: its frames are on no common grid of slices; give a segmentation of one volume.")
