"""YAML → validated → `core.policy`; edits that keep comments; secrets by reference.

Light on purpose: pydantic and ruamel load when a policy file is read, not when a help text is printed.
"""

from pathlib import Path

from cto_backups.config.settings import Configuration, Settings

__all__ = ["Configuration", "Settings", "load"]


def load(path: Path) -> Configuration:
    """Read and check a policy file; relative places in it start at its folder.

    Raises NotFoundError when there is none, PolicyMistakesError (a PolicyError) with every mistake of the file at once.
    """
    from cto_backups.config.reading import read

    return read(path)
