"""On which file system a path lies, as the kernel lists them in ``/proc/self/mountinfo``."""

import os
import re
from pathlib import Path
from typing import Final

_LIST: Final = Path("/proc/self/mountinfo")
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")
_NETWORK: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"}
    | {"nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs"}
)


def network_file_system(path: bytes) -> str | None:
    """The kind of file system that a real path lies on where others may change it too; None for one of this machine.

    What programs serve (FUSE) counts as such: the kernel is not told what they change.
    """
    kind = _kind(path)
    return kind if kind in _NETWORK or kind.startswith("fuse") else None


def _kind(path: bytes) -> str:
    kind, longest = "", -1
    try:
        mounts = _LIST.read_bytes()
    except OSError:
        return ""
    for line in mounts.splitlines():
        fields, _, described = line.partition(b" - ")
        at = _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), fields.split(b" ")[4]).rstrip(b"/")
        # What is mounted later over the same place hides what was there.
        if len(at) >= longest and (path == at or path.startswith(at + b"/")):
            kind, longest = os.fsdecode(described.split(b" ")[0]), len(at)
    return kind
