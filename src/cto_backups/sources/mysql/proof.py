"""What a server holds that was brought up for a restore test, told as its point's fingerprint tells it."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from cto_backups.core.model import Fingerprint
from cto_backups.sources.mysql.catalogue import catalogue
from cto_backups.sources.mysql.connection import Address, Session, Version, do
from cto_backups.sources.mysql.hashes import HASHES
from cto_backups.sources.mysql.inventory import databases
from cto_backups.sources.mysql.moment import fingerprint_of, moving, moving_from, moving_sample
from cto_backups.sources.mysql.summing import more_sessions, summed_up
from cto_backups.sources.mysql.throwaway import KEEPER
from cto_backups.sources.mysql.users import accounts

_MOST_SESSIONS: Final = 8


def found_there(address: Address, session: Session, expected: Fingerprint, version: Version) -> Fingerprint:
    """The fingerprint of all databases there. What only moves on is as it was, or further on.

    Nobody else is there: `session` and others read at once, as many as there are cores. Raises pymysql.MySQLError.
    """
    made_of = [catalogue(session, name) for name in sorted(databases(session))]
    with ExitStack() as stack:
        cores = min(len(os.sched_getaffinity(0)), _MOST_SESSIONS)
        sessions = (session, *more_sessions(address, stack, cores - 1))
        for each in sessions:
            do(each, "START TRANSACTION READ ONLY")
        summed = summed_up(sessions, made_of, history=version.keeps_history, row_hash=HASHES[expected.algorithm])
    known = {sample.key: sample for sample in expected.samples}
    samples = [known["server"]]
    for key, at in moving(session, made_of):
        before = known.get(key)
        if before is not None:
            samples.append(before if at.reached(moving_from(before)) else moving_sample(key, at))
    users = None
    if known["server"].fields["accounts"] == "kept":
        objects = {each.name: each.objects for each in made_of}
        users = accounts(session, version, objects, without=[KEEPER])
    found = fingerprint_of(
        summed, users.digests() if users else {}, len(users.every) if users else 0, samples, expected.algorithm
    )
    return replace(found, samples=tuple(sample for sample in found.samples if sample.key in known))


def plugins_of(server: Mapping[str, str]) -> dict[str, str]:
    """The libraries of plugins that a fingerprint says of its server, by the plugins' names."""
    return dict(part.split("=", 1) for part in server.get("plugins", "").split(",") if part)
