"""Common functions of all readers: a sentence for a file that cannot be read, and limits on the claims of a header."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medloom.core.errors import UserError
from medloom.data.image_io.content import GZIP, content_of, pointer_of

# Words by which decoders say that they do not know a way of storing, and not that a file is damaged.
NOT_READ = ("not supported", "unsupported", "not implemented", "unknown compression", "requires", "no available")
MAX_PIXELS = 178_956_970  # Pillow's limit for an image, applied to every 2-D format.
MAX_VOXELS = 2**31  # 8 GiB as float32.


def require_file(path: Path) -> None:
    """Refuse a path that is not a file with content.

    Raises:
        UserError: missing, a folder, empty, or the pointer of a store of large files.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; name an image file.")
    if not path.is_file():
        raise UserError(f"{path} is missing.")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); copy it again or leave it out.")
    if pointer := pointer_of(path):
        raise UserError(f"{path} is {pointer}.")


@contextmanager
def explained_reading(path: Path, kind: str) -> Iterator[None]:
    """Turn any error that a decoder raises about the file into a UserError.

    Decoders raise errors of every class on damaged files, so the block should contain their calls and little else. The
    sentence names the true cause where the first bytes or the decoder's words say it.
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path} needs more memory than is available to be read as {kind}.") from error
    except Exception as error:
        # The last line of a library's message states the reason.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1].rstrip(".") if lines else type(error).__name__
        if cause := _wrong_name(path, kind):
            raise UserError(f"{path} {cause}") from error
        if isinstance(error, NotImplementedError) or any(word in reason.casefold() for word in NOT_READ):
            raise UserError(
                f"{path} is stored in a way that is not read here ({reason}); convert it, or leave it out."
            ) from error
        raise UserError(
            f"{path} cannot be read as {kind} ({reason}): it is damaged or cut short, or in another format;"
            " copy it again or leave it out."
        ) from error


def _wrong_name(path: Path, kind: str) -> str | None:
    """Why a file cannot be read as a format if its name is wrong; None if its first bytes agree or say nothing."""
    content = content_of(path) if path.is_file() else None
    compressed = path.name.lower().endswith(".gz")
    if content == GZIP:
        return None if compressed else "is compressed with gzip; unpack it, or name it .nii.gz if it is a NIfTI."
    if content is not None and compressed:
        return f"is not compressed with gzip, as its ending says, but {content}; give it the right ending."
    if content is not None and kind.split()[0] not in content:
        return f"is {content} by its first bytes, and no {kind}; give it the right ending."
    return None


def require_sane_size(path: Path, size: Sequence[int], limit: int = MAX_PIXELS) -> None:
    """Refuse a header that claims an axis below 1 or more pixels than `limit`, before memory is allocated for it.

    Raises:
        UserError: names the size and the limit.
    """
    if min(size) < 1 or math.prod(size) > limit:
        raise UserError(
            f"{path} claims a size of {' x '.join(map(str, size))}; each axis must be at least 1 and all at most"
            f" {limit} pixels."
        )
