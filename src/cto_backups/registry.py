"""Every adapter: kind → "module:Class", loaded when asked for, so that nobody waits for what they do not use."""

from importlib import import_module
from typing import Any

from cto_backups.errors import PolicyError

SOURCES = {
    "command": "cto_backups.sources.command:CommandSource",
    "files": "cto_backups.sources.files:FilesSource",
    "git": "cto_backups.sources.git:GitSource",
    "sqlite": "cto_backups.sources.sqlite:SqliteSource",
}
VAULTS = {
    "file": "cto_backups.vaults.local:LocalVault",
}
SANDBOXES = {
    "folder": "cto_backups.sandboxes.folder:FolderSandbox",
}

CHANNELS = {
    "apprise": "cto_backups.channels.services:AppriseChannel",
    "smtp": "cto_backups.channels.smtp:SmtpChannel",
    "webhook": "cto_backups.channels.webhook:WebhookChannel",
}


def load(adapters: dict[str, str], kind: str) -> Any:
    """The adapter class of a kind. Raises PolicyError naming the kinds there are."""
    try:
        module, name = adapters[kind].split(":")
    except KeyError:
        raise PolicyError(
            f"There is no adapter for '{kind}'",
            why=f"known are: {', '.join(sorted(adapters))}",
            todo="Correct it in backups.yaml.",
        ) from None
    return getattr(import_module(module), name)
