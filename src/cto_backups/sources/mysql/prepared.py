"""Files that a program took from a server while it worked, made into those of one moment by the same program."""

import os
import re
from pathlib import Path
from typing import Final

from cto_backups import process
from cto_backups.process import LONGEST_SECONDS, ToolError
from cto_backups.sources.mysql.connection import Tools
from cto_backups.sources.mysql.copier import copier_of
from cto_backups.sources.mysql.files import CHECKPOINTS

_ERROR: Final = re.compile(r"\bERROR\b|\berror\b|Error:")
_STAMP: Final = re.compile(r"^(?:\[\d+\] )?(?:FATAL ERROR: )?\d{4}-\d\d-\d\d +\d+:\d\d:\d\d (?:\d+ )?")


def prepare(tools: Tools, data: Path) -> None:
    """Carry out the log that came with the files, unless that was done: a server can be started on them then.

    Raises ToolError, ToolMissingError, OSError.
    """
    copier = copier_of(tools.version)
    if copier.prepared.search((data / CHECKPOINTS).read_bytes()):
        return
    program = tools["files"]
    try:
        process.run(
            copier.prepare(program, data),
            environment={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(data), "LC_ALL": "C"},
            timeout_seconds=LONGEST_SECONDS,
            folder=data,
        )
    except ToolError as error:
        raise complained(error) from None
    if not copier.prepared.search((data / CHECKPOINTS).read_bytes()):
        raise ToolError(program, 0, "it ended well, but without saying that the files are prepared")
    _give(data)


def complained(error: ToolError) -> ToolError:
    """With what the program complained of, which is lost among the many lines of what it did."""
    errors = [_STAMP.sub("", line) for line in error.lines if _ERROR.search(line)]
    detail = "; ".join(dict.fromkeys(errors[-3:]))[:600] if errors else error.detail
    if error.status is not None and error.status < 0:
        detail = f"it was ended by signal {-error.status}"
    return type(error)(Path(error.program).name, error.status, detail, error.lines)


def _give(data: Path) -> None:
    """Give what was made on the way to whom the rest belongs."""
    owner = data.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for folder, _, files in os.walk(data):
        for name in files:
            file = os.path.join(folder, name)  # noqa: PTH118 - of many files
            if os.lstat(file).st_uid == 0:
                os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)
