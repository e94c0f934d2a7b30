"""Writes to a catalog for some seconds, one transaction after the other, and tells how many and how long each took."""

import json
import sys
import time
from collections.abc import Callable
from itertools import count

from benchmarks.fleet_counting import own_cpu
from cto_backups import clock
from cto_backups.catalog import chain
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.postgresql import transaction
from cto_backups.catalog.postgresql.address import Address
from cto_backups.core.model import ActionKind
from cto_backups.evidence.records import SigningKey


def main() -> None:
    """Begin runs; sign records, each alone, with a lock of each chain, or some at once; add rows without a lock."""
    url, kind, number, seconds = sys.argv[1:]
    with Catalog.open(url, now=clock.now()) as catalog:
        do = writing(catalog, url, kind, int(number))
        do()
        began, cpu, waits = time.perf_counter(), own_cpu(), []
        while (at := time.perf_counter()) - began < float(seconds):
            do()
            waits.append(time.perf_counter() - at)
    print(json.dumps({"done": len(waits), "waits": waits, "cpu": own_cpu() - cpu}))


ONE_LOCK_A_CHAIN = """
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = {busy};
    SELECT pg_advisory_xact_lock({number});
    SELECT version_num FROM alembic_version FOR KEY SHARE;
    """
"""What was tried in the place of the lock that all writers share."""
BATCH = 5


def batch(catalog: Catalog, signer: SigningKey) -> None:
    """Some records in one transaction."""
    with catalog._writing() as connection:
        for _ in range(BATCH):
            chain.append(connection, signer, "copy", {"point": "p", "vault": "near"}, clock.now())


def writing(catalog: Catalog, url: str, kind: str, number: int) -> Callable[[], object]:
    """What to do again and again."""
    numbers, signer = count(), SigningKey(bytes([number]) * 32)
    if kind == "runs":
        return lambda: catalog.start_run(
            ActionKind.BACKUP,
            source=f"s{(next(numbers) * 8 + number) % 1000:07}",
            vault=None,
            point=None,
            now=clock.now(),
            pid=number,
            host="host",
        )
    if kind in ("records", "chains"):
        if kind == "chains":
            transaction._WRITE = ONE_LOCK_A_CHAIN.replace("{number}", str(number))  # type: ignore[misc]
        return lambda: catalog.append_record(signer, "copy", {"point": "p", "vault": "near"}, clock.now())
    if kind == "batches":
        return lambda: batch(catalog, signer)
    session = Address.of(url).connect(autocommit=True)
    session.execute("CREATE TABLE IF NOT EXISTS unlocked (host TEXT, number BIGINT, content TEXT)")
    return lambda: session.execute("INSERT INTO unlocked VALUES (%s, %s, %s)", (str(number), next(numbers), "x" * 200))


if __name__ == "__main__":
    main()
