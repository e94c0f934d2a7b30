"""Faults of keys that are looked at once a year: in a cloud's key service, and with custodians."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from false_greens.site import Site
from false_greens.table import fault, finding, rewrite
from servers.key_services import GoogleKeys, State

_NEEDS = ("google_key_service",)


def _wrapped(site: Site) -> tuple[GoogleKeys, str]:
    """Google's key service, and a key of it that opens every vault beside the file."""
    keys: GoogleKeys = site.servers["google_key_service"]
    name = keys.make(f"of-{len(keys.keys)}")
    found: Callable[[], AbstractContextManager[Any]] = lambda: mock.patch.dict(  # noqa: E731 - for each command anew
        os.environ, {"KMS_EMULATOR_HOST": keys.address}
    )
    site.trouble.append(found)
    site.edit(("  repository: file:keys/repository.key", f"  repository: [file:keys/repository.key, 'gcp-kms:{name}']"))
    site.well("key", "wrap")
    return keys, name


@fault(
    "Shared secret let into an off-site vault",
    "somebody adds the secret that opens the other vaults to one with a key of its own",
    finding("own-keys-alone", "two"),
)
def shared_secret_added(site: Site) -> None:
    site.well("key", "add", "--new", f"file:{site.home / 'keys' / 'repository.key'}", "--vault", "two")


@fault(
    "Off-site vault without a key of its own",
    "the key of an off-site vault is taken out of the policy, and the secret of the others opens it",
    finding("own-keys", "two"),
)
def own_key_left_out(site: Site) -> None:
    shared_secret_added(site)
    site.edit(("    key: file:own/two.key\n", ""))


@fault(
    "Key disabled at its service",
    "the key of a cloud that opens every vault is disabled, and the key file is still there",
    finding("key-services"),
    needs=_NEEDS,
)
def key_disabled(site: Site) -> None:
    keys, name = _wrapped(site)
    keys.keys[name][0].state = State.DISABLED


@fault(
    "Key whose use was taken away",
    "this machine may not use the key of a cloud any more",
    finding("key-services"),
    needs=_NEEDS,
)
def key_refused(site: Site) -> None:
    keys, name = _wrapped(site)
    keys.refused.add(name)


@fault(
    "Wrapped secret gone from a vault",
    "what a cloud's key sealed is deleted from a vault, and its copy on this machine is still there",
    finding("key-services"),
    needs=_NEEDS,
)
def wrapped_gone(site: Site) -> None:
    _wrapped(site)
    for file in (site.vault("one") / "wrapped-keys").iterdir():
        file.unlink()


@fault(
    "Wrapped secret damaged in a vault",
    "what a cloud's key sealed is cut to half in a vault, and its copy on this machine is whole",
    finding("key-services"),
    needs=_NEEDS,
)
def wrapped_damaged(site: Site) -> None:
    _wrapped(site)
    for file in (site.vault("one") / "wrapped-keys").iterdir():
        rewrite(file, lambda content: content[: len(content) // 2])


@fault(
    "Custodians without shares",
    "the policy names three custodians, and nobody gave them anything",
    finding("key-escrow", "escrow"),
    finding("key-drills", "one"),
)
def without_shares(site: Site) -> None:
    site.edit(("  evidence: file:", "  escrow: {custodians: [Ada, Grace, Linus], threshold: 2}\n  evidence: file:"))
