"""The file system that a path lies on, as far as the computer says it."""

import re
from pathlib import Path

from medloom.core.errors import UserError

MOUNTS = Path("/proc/self/mounts")
# File systems of other computers, on which SQLite's locks and shared memory do not hold.
# fmt: off
NETWORKS = frozenset(
    (
        "nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "lustre", "gpfs",
        "beegfs", "pvfs2", "orangefs", "glusterfs", "davfs", "acfs", "ocfs2", "gfs2", "fuse.sshfs",
        "fuse.glusterfs", "fuse.ceph", "fuse.rclone", "fuse.s3fs", "fuse.goofys", "fuse.gcsfuse",
        "fuse.juicefs", "fuse.davfs2", "fuse.smbnetfs", "fuse.moosefs", "fuse.mfs", "fuse.lizardfs",
        "fuse.seaweedfs", "fuse.cephfs", "fuse.curlftpfs",
    )
)
# fmt: on


def file_system_of(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the file system that a path lies on; None where the computer does not say it.

    Args:
        path: may be missing; then that of the folder above it that is there.
        mounts: list of what is mounted where, as Linux has it.

    Examples:
        >>> from pathlib import Path
        >>> from medloom.core.file_system import file_system_of
        >>> _ = Path("mounts").write_text("disk / ext4 rw 0 0\\nserver:/team /data/our\\\\040team nfs4 rw 0 0\\n")
        >>> file_system_of(Path("/data/our team/ratings.db"), Path("mounts"))
        'nfs4'
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        # macOS and Windows have no such list, and nothing is claimed there.
        return None
    place = path.resolve()
    found: tuple[int, str] | None = None
    for line in lines:
        _, folder, kind, *_ = [*line.split(" "), "", "", ""]
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), folder))
        # Of two at one folder the later one lies over the other.
        if place.is_relative_to(mounted) and (found is None or len(mounted.parts) >= found[0]):
            found = len(mounted.parts), kind
    return None if found is None else found[1]


def require_local_disk(path: Path, option: str, mounts: Path = MOUNTS) -> None:
    """Refuse a file of a database on a network disk.

    Args:
        path: of the file; may be missing.
        option: that names it.
        mounts: as `file_system_of`.

    Raises:
        UserError: names the file system.
    """
    kind = file_system_of(path, mounts)
    if kind in NETWORKS:
        raise UserError(
            f"{option} {path} lies on a network disk ({kind}), where no lock keeps two writers apart and ratings"
            " could be lost; name a file on a disk of this computer, and copy it elsewhere when nobody writes it."
        )
