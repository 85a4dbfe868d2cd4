"""Inspects a manifest's images, masks and prior images: formats and sizes from headers, and pixels on request."""

import hashlib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import content_stamp, hash_content
from medloom.core.progress import progress
from medloom.core.spec import HU
from medloom.data.columns import PATH_COLUMNS
from medloom.data.images import check_pixels, read_header, read_image, readers_at_once
from medloom.data.manifest import Manifest
from medloom.data.masks import read_mask
from medloom.data.tables import Problem
from medloom.data.units import AIR, is_ct, unit_for

CHUNK = 1024


@dataclass(frozen=True)
class Finding:
    """One image file: its description and digest, or the reason why it is unusable."""

    description: str = ""
    digest: str = ""
    reason: str = ""
    left_aside: tuple[str, ...] = ()
    doubtful: bool = False


@dataclass
class Inspection:
    """Counts over all files; memory grows with the number of rows, never with pixels.

    Attributes:
        kinds: modality -> description (format, size, channels, unit) -> number of files.
        problems: unusable files.
        identical: groups of lines with the same image.
        left_aside: folders of slices and the files in them that are none, each with the reason.
        doubtful: lines of images that are said to be in HU and look as if they were not.
        decoded: whether pixels were read.
    """

    decoded: bool
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    identical: list[list[int]] = field(default_factory=list)
    left_aside: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    doubtful: list[int] = field(default_factory=list)


def inspect_images(manifest: Manifest, decode: bool, unit: str | None = None) -> Inspection:
    """Inspect every image of a manifest, and its masks and prior images.

    Args:
        manifest: the rows.
        decode: read the pixels too, and find truncated, non-finite, constant and repeated images. Otherwise read the
            headers, and find files with the same bytes.
        unit: of values in files that do not state it.
    """
    result = Inspection(decode)
    by_digest: dict[str, list[int]] = defaultdict(list)
    by_size: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    columns = (manifest.frame[name].tolist() for name in ("line", "path", "modality"))
    jobs = [(line, Path(path), modality) for line, path, modality in zip(*columns, strict=True)]
    with (
        ThreadPoolExecutor(readers_at_once(path for _, path, _ in jobs)) as pool,
        progress("decoding" if decode else "reading headers", len(jobs), "files") as advance,
    ):
        # In chunks: a pool's map submits all of its work at once, with one future each.
        for start in range(0, len(jobs), CHUNK):
            chunk = jobs[start : start + CHUNK]
            findings = pool.map(lambda job: _finding(job[1], decode, unit, job[2]), chunk)
            for (line, path, modality), finding in zip(chunk, findings, strict=True):
                advance()
                if finding.doubtful:
                    result.doubtful.append(line)
                if finding.left_aside:
                    result.left_aside[path] = finding.left_aside
                if finding.reason:
                    result.problems.append(Problem(line, finding.reason))
                    continue
                result.kinds.setdefault(modality, Counter())[finding.description] += 1
                if finding.digest:
                    by_digest[finding.digest].append(line)
    if not decode:
        for line, path, _ in jobs:
            by_size[content_stamp(path)[0]].append((line, path))
        # Only files of one size can have the same bytes.
        for line, path in (entry for group in by_size.values() if len(group) > 1 for entry in group):
            by_digest[hash_content(path)].append(line)
    result.identical = [lines for lines in by_digest.values() if len(lines) > 1]
    wrong = {problem.line for problem in result.problems}
    result.problems += [problem for problem in _other_problems(manifest, decode, unit) if problem.line not in wrong]
    return result


def _other_problems(manifest: Manifest, decode: bool, unit: str | None) -> list[Problem]:
    """Rows whose mask or prior image cannot be used, the first reason of each."""
    columns = [name for name in PATH_COLUMNS if name != "path" and name in manifest.frame]
    lines: dict[tuple[str, Path, str], list[int]] = defaultdict(list)
    for name in columns:
        cells = zip(manifest.frame["line"], manifest.frame[name], manifest.frame["modality"], strict=True)
        for line, cell, modality in cells:
            if cell:
                lines[name, Path(cell), modality].append(int(line))
    problems: dict[int, str] = {}
    with (
        ThreadPoolExecutor(readers_at_once(path for _, path, _ in lines)) as pool,
        progress("masks and prior images", len(lines), "files", 0) as advance,
    ):
        reasons = pool.map(lambda key: _fault(key[0], key[1], key[2], decode, unit), lines)
        for part, reason in zip(lines, reasons, strict=True):
            advance()
            for line in lines[part] if reason else ():
                problems.setdefault(line, f"column {manifest.columns[part[0]]!r}: {reason}")
    return [Problem(line, reason) for line, reason in problems.items()]


def _fault(column: str, path: Path, modality: str | None, decode: bool, unit: str | None) -> str:
    """Why a mask or a prior image cannot be used; empty for one that can. Pixels are read if `decode`."""
    if column != "mask":
        return _finding(path, decode, unit, modality).reason
    try:
        if decode:
            read_mask(path)
        else:
            read_header(path)
    except UserError as error:
        return str(error)
    return ""


def _finding(path: Path, decode: bool, unit: str | None, modality: str | None) -> Finding:
    try:
        unit = unit_for(unit, modality, path)
        header = read_header(path, unit)
        size = " x ".join(map(str, header.size))
        colour = "colour" if header.channels == 3 else "grey"
        description = f"{header.kind}, {size}, {header.bits} bit {colour}, {header.unit}"
        if not decode:
            return Finding(description, left_aside=header.left_aside, doubtful=unit == HU and not is_ct(modality))
        image = read_image(path, unit=unit)
        check_pixels(image, path)
        doubtful = unit == HU and (not is_ct(modality) or float(image.pixels.min()) > AIR)
        digest = hashlib.sha256(repr(image.pixels.shape).encode() + image.pixels.tobytes())
        return Finding(description, digest.hexdigest(), left_aside=header.left_aside, doubtful=doubtful)
    except UserError as error:
        return Finding(reason=str(error))
