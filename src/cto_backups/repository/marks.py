"""Which packs no index lists, and since when: ``unlisted/`` beside ``index/``, which stock restic does not look at.

Each prune leaves one sealed file with all of them. Of a pack in several files (a prune was killed between writing the
new one and removing the old one) the latest moment counts: a pack may wait too long, and never too short.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from cto_backups.errors import DamageError, NotFoundError
from cto_backups.repository.gotime import format_time, parse_time
from cto_backups.repository.stored import StoredFiles, is_name

FOLDER = "unlisted"


def load_marks(files: StoredFiles) -> tuple[dict[str, datetime], list[str]]:
    """The moment for each pack, and the names of the files; a damaged file says nothing: its packs wait anew."""
    marks: dict[str, datetime] = {}
    names = files.names(FOLDER)
    for name in names:
        try:
            document = files.load(FOLDER, name)
            found = {str(pack["id"]): parse_time(pack["since"]) for pack in document["packs"]}
        except (NotFoundError, DamageError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue
        for pack, since in found.items():
            if is_name(pack):
                marks[pack] = max(since, marks.get(pack, since))
    return marks, names


def replace_marks(files: StoredFiles, marks: Mapping[str, datetime], old: Sequence[str]) -> None:
    """Store the marks in a file of their own, and then remove the `old` files."""
    if marks:
        packs = [{"id": pack, "since": format_time(since)} for pack, since in sorted(marks.items())]
        files.save(FOLDER, {"packs": packs})
    for name in old:
        files.vault.delete(files.key(FOLDER, name))
