"""Every sandbox that there is offers what a restore test asks for."""

from pathlib import Path

from cto_backups import registry
from cto_backups.core.sandboxes import Sandbox


def test_every_sandbox_is_one(tmp_path: Path) -> None:
    for kind in registry.SANDBOXES:
        assert isinstance(registry.load(registry.SANDBOXES, kind)(tmp_path), Sandbox), kind
