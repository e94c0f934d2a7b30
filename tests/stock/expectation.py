"""What a restore of a tree is to bring back, given what a version of stock restic cannot do.

Each of these was seen. Nothing is masked when we restore what we wrote.
"""

from dataclasses import replace
from pathlib import Path

from trees import compare

from .restic import Restic

NEVER_RESTORED = ("socket",)
LOST_BEFORE_0_17 = b"links/not-utf-8"  # `linktarget_raw` came with 0.17


def seen(root: Path, stock: Restic | None = None) -> dict[bytes, compare.Node]:
    """The odd tree, or what was restored of it, without what is lost when `stock` writes or restores it."""
    if stock is None:
        return compare.look(root)
    found = compare.look(root, without=NEVER_RESTORED)
    old = stock.version < (0, 17)
    if old:
        found.pop(LOST_BEFORE_0_17, None)
    for path, node in found.items():
        if node.kind == "symlink":
            # Several names of one symbolic link come back as several links; 0.14 forgets attributes of links.
            found[path] = replace(node, linked=b"", attributes=() if old else node.attributes)
    return found
