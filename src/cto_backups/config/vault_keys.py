"""The keys of vaults that have one of their own; what would make them open more than that is objected to."""

import os
from collections.abc import Iterator

from cto_backups.config.building import Builder
from cto_backups.config.models import PolicyFile
from cto_backups.config.repository_key import RepositoryKey, parse_key_reference
from cto_backups.config.secrets import SecretReference
from cto_backups.errors import KeyProblemError

_TODO = "Name a place of its own, such as file:keys/{name}.key; or leave key out."


def built_keys(file: PolicyFile, builder: Builder) -> dict[str, RepositoryKey]:
    """The own keys of vaults, by their names.

    The domains of hosts may share the key of the vault in which they are: one who has that may read all of it anyway.
    """
    shared = RepositoryKey(tuple(map(parse_key_reference, file.keys.repository)))
    found = {
        name: RepositoryKey(tuple(map(parse_key_reference, vault.key)))
        for name, vault in file.vaults.items()
        if vault.key
    }
    taken = {place: "the secret under keys: repository" for place in _places(shared, builder)}
    taken |= {place: "the evidence key" for place in _places(_single(file.keys.evidence), builder)}
    of_vaults: dict[str, str] = {}
    for name, key in found.items():
        places = tuple(_places(key, builder))
        domain = file.vaults[name].domain_of is not None
        other = next((taken[place] for place in places if place in taken), None)
        if other is None and set(key.references) == set(shared.references):
            other = "the secret under keys: repository"
        if other is None and not domain:
            other = next((f"the key of vault {of_vaults[place]}" for place in places if place in of_vaults), None)
        if other is not None:
            message = f"vault {name} is to have a key of its own, and this is {other}"
            builder.refuse(("vaults", name, "key"), message, _TODO.format(name=name))
        elif not domain:
            of_vaults |= dict.fromkeys(places, name)
    return found


def _single(written: str) -> RepositoryKey:
    return RepositoryKey((SecretReference.parse(written),))


def _places(key: RepositoryKey, builder: Builder) -> Iterator[str]:
    """What tells two places of secrets apart; key services wrap many secrets with one key, and are none.

    Where services alone give the secret, all of them together do.
    """
    for reference in key.plain:
        try:
            path = reference.path(builder.home)
        except KeyProblemError:  # a home folder that is not known is told by who reads it
            path = None
        yield str(reference) if path is None else f"file:{os.path.normpath(path)}"
    if not key.plain:
        yield " ".join(sorted(map(str, key.services)))
