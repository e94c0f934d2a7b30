"""Memory to read into."""

import mmap


def fresh(length: int) -> memoryview:
    """So many bytes. The kernel gives them page by page, when they are written to: nobody fills them with zeros before.

    Of this process alone: to be given pages that others could share takes half as long again.
    """
    return memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
