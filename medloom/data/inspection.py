"""Inspects a manifest's image files: formats and sizes from headers, and pixels on request."""

import hashlib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import content_stamp, hash_content
from medloom.core.progress import progress
from medloom.data.images import check_pixels, read_header, read_image, readers_at_once
from medloom.data.manifest import Manifest
from medloom.data.tables import Problem

CHUNK = 1024


@dataclass(frozen=True)
class Finding:
    """One image file: its description and digest, or the reason why it is unusable."""

    description: str = ""
    digest: str = ""
    reason: str = ""


@dataclass
class Inspection:
    """Counts over all files; memory grows with the number of rows, never with pixels.

    Attributes:
        kinds: modality -> description (format, size, channels, unit) -> number of files.
        problems: unusable files.
        identical: groups of lines with the same image.
        decoded: whether pixels were read.
    """

    decoded: bool
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    identical: list[list[int]] = field(default_factory=list)


def inspect_images(manifest: Manifest, decode: bool, unit: str | None = None) -> Inspection:
    """Inspect every file of a manifest.

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
            findings = pool.map(lambda job: _finding(job[1], decode, unit), chunk)
            for (line, _, modality), finding in zip(chunk, findings, strict=True):
                advance()
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
    return result


def _finding(path: Path, decode: bool, unit: str | None) -> Finding:
    try:
        header = read_header(path, unit)
        size = " x ".join(map(str, header.size))
        colour = "colour" if header.channels == 3 else "grey"
        description = f"{header.kind}, {size}, {header.bits} bit {colour}, {header.unit}"
        if not decode:
            return Finding(description)
        image = read_image(path, unit=unit)
        check_pixels(image, path)
        digest = hashlib.sha256(repr(image.pixels.shape).encode() + image.pixels.tobytes())
        return Finding(description, digest.hexdigest())
    except UserError as error:
        return Finding(reason=str(error))
