"""The manifest of a point: a line of JSON for each object, sorted by name, with all that is known of it.

``name``, ``path`` (inside the point), ``size``, ``made`` (when this content was written), ``sha256`` (of the bytes as
they were read); and beside them what the store tells: ``content_type``, ``metadata``, ``storage_class``, ``generation``
or ``version``, its checksums, and more.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cto_backups.sources.bucket.inventory import Row
from cto_backups.sources.moments import moment

OBJECTS: Final = b"objects"
PROPERTIES: Final = b"properties"
MANIFEST: Final = b"objects.jsonl"
INSIDE: Final = "/properties/objects.jsonl"

Line = dict[str, Any]


def written(row: Row) -> bytes:
    """An object's line, with its line feed; the same for the same object."""
    found = row.found
    line = {
        **found.told,
        **found.more,
        "name": found.name.decode("utf-8", "surrogateescape"),
        "path": "/objects/" + row.path.decode("utf-8", "surrogateescape"),
        "size": found.size,
        "made": f"{moment(found.made_ns):%Y-%m-%dT%H:%M:%S.%fZ}",
        "sha256": (row.sha256 or b"").hex(),
    }
    return json.dumps(line, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def lines(file: Path) -> Iterator[tuple[bytes, Line]]:
    """Each line of a restored manifest, as bytes and read. Raises OSError, and ValueError for what is none."""
    with file.open("rb") as content:
        for line in content:
            read = json.loads(line)
            if not isinstance(read, dict) or not isinstance(read.get("name"), str):
                raise ValueError("a line of it describes no object")
            yield line, read


def name_in(line: Line) -> bytes:
    """The name of a line's object."""
    return str(line["name"]).encode("utf-8", "surrogateescape")
