"""Reading a whole tree, for nothing but what it counts on the way: its fingerprint."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from cto_backups.core.trees import CaptureTree, Entry, EntryKind, EntryUnreadableError

# Files below this size are read whole, so many and so many bytes of them at once, on each thread.
_LARGE: Final = 1 << 20
_BATCH_FILES: Final = 256
_BATCH_BYTES: Final = 8 << 20


def read_everything(tree: CaptureTree) -> None:
    """Read every file of a tree, on as many threads as there are processors; what cannot be read is left out."""
    threads = max(2, os.cpu_count() or 1)
    running: deque[Future[None]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="walk") as pool:
        try:
            for batch in _batches(tree):
                running.append(pool.submit(_read, tree, batch))
                if len(running) > 2 * threads:
                    running.popleft().result()
            while running:
                running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _batches(tree: CaptureTree) -> Iterator[list[Entry]]:
    """Every file once: small ones together, large ones alone."""
    folders: list[Entry] = [tree.root]
    batch: list[Entry] = []
    size_bytes = 0
    while folders:
        for entry in tree.folder(folders.pop()):
            if entry.kind is EntryKind.FOLDER:
                folders.append(entry)
            elif entry.kind is EntryKind.FILE:
                if entry.size >= _LARGE:
                    yield [entry]
                    continue
                batch.append(entry)
                size_bytes += entry.size
                if len(batch) >= _BATCH_FILES or size_bytes >= _BATCH_BYTES:
                    yield batch
                    batch, size_bytes = [], 0
    if batch:
        yield batch


def _read(tree: CaptureTree, batch: list[Entry]) -> None:
    if batch[0].size < _LARGE:
        tree.read_many(batch)
        return
    buffer = memoryview(bytearray(_LARGE))
    try:
        reader = tree.open(batch[0])
        try:
            while reader.readinto(buffer):
                pass
        finally:
            reader.close()
    except EntryUnreadableError:
        return  # the tree has noted it
