"""Evidence for others: write an export of the records; check the records in the catalog, in vaults and in exports."""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, DamageError, RefusedError, UsageError, VaultError
from cto_backups.evidence import bundle, export
from cto_backups.evidence.index import Scope
from cto_backups.evidence.payloads import moment_from_text
from cto_backups.evidence.records import Record
from cto_backups.flows import chains
from cto_backups.flows.installation import Installation
from cto_backups.flows.record_files import RecordFiles


@dataclass(frozen=True)
class Checked:
    """What checking records found: `place` is the catalog, a vault or a file; intact when there are no faults.

    `notes` are what is no fault and should be known.
    """

    place: str
    heads: tuple[export.Head, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def records(self) -> int:
        """How many records are there."""
        return sum(head.sequence for head in self.heads)


def write_export(installation: Installation, to: Path, scope: Scope, *, overwrite: bool = False) -> export.Exported:
    """Write an export of all records of the catalog, mode 0600, whole or not at all.

    Raises RefusedError when something is there already, UsageError when nothing can be written there, DamageError when
    the records in the catalog are not whole: what is handed over must be checkable.
    """
    checked = check_catalog(installation, ())
    if checked.faults:
        raise DamageError(
            "The records in the catalog are damaged, and were not exported",
            why="\n" + "\n".join(checked.faults[:20]),
            todo="See 'cto.backups evidence verify': a vault may have them whole.",
        )
    whole = {signer: installation.catalog.records_after(signer, 0) for signer in installation.catalog.signers()}
    if not overwrite and os.path.lexists(to):
        raise _taken(to)
    draft = to.with_name(f".{to.name}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            # A descriptor: Path.open cannot make a file that nobody else may read from the start.
            with open(  # noqa: PTH123
                os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b"
            ) as file:
                with installation.progress(f"Writing {to.name}") as progress:
                    progress.total(entries=checked.records, size_bytes=0)
                    read = {signer: chains.told(progress, records) for signer, records in whole.items()}
                    exported = export.write(file, read, scope)
                file.flush()
                os.fsync(file.fileno())
            if not overwrite:
                # Reserved, so that a file that came meanwhile is not replaced.
                os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            draft.replace(to)
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        raise _taken(to) from None
    except OSError as error:
        raise UsageError(
            f"The export cannot be written to {to}", why=error.strerror or str(error), todo="Name another file."
        ) from error
    return exported


def _taken(to: Path) -> RefusedError:
    return RefusedError(
        f"{to} is there already", why="it may be evidence", todo="Name another file, or say --overwrite."
    )


def check_catalog(installation: Installation, pinned: Sequence[str]) -> Checked:
    """Check the chains that the catalog keeps, also against how much of them it has brought to vaults."""
    delivered = {name: installation.catalog.vault_heads(name) for name in installation.policy.vaults}
    heads: list[export.Head] = []
    faults: list[str] = []
    with installation.progress("Checking the records in the catalog") as progress:
        for signer in installation.catalog.signers():
            walked = chains.walk(chains.told(progress, chains.in_catalog(installation, signer)))
            faults += walked.faults
            if walked.head:
                heads.append(walked.head)
    lengths = {head.fingerprint[:16]: head.sequence for head in heads}
    for name, got in delivered.items():
        for signer, most in got.items():
            if (there := lengths.get(signer, 0)) < most:
                faults.append(f"signer {signer}: its end was cut off: {there} records, and vault '{name}' got {most}")
    return Checked("catalog", tuple(heads), (*faults, *_unpinned(heads, pinned)))


def check_vault(installation: Installation, name: str, pinned: Sequence[str]) -> Checked:
    """Check the chains in a vault: by themselves, and against the catalog and the other vaults.

    Raises VaultError, and what keeps the vault's repository from opening: its key opens the records.
    """
    catalog = installation.catalog
    delivered = catalog.vault_heads(name)  # asked first: what arrives meanwhile is not missed
    listed = _listed(installation, name)
    heads: list[export.Head] = []
    faults: list[str] = []
    others = {
        other: found for other in installation.policy.vaults if other != name and (found := _try(installation, other))
    }
    with installation.progress(f"Checking the records in {name}") as progress:
        progress.total(entries=sum(len(chain.numbers) for chain in listed.values()), size_bytes=0)
        for signer in sorted(listed.keys() | delivered.keys()):
            chain = listed.get(signer) or chains.Chain(installation, signer, {})
            walked = chain.walk(progress)
            faults += walked.faults
            if walked.head:
                heads.append(walked.head)
            known = [record.digest if record else "" for record in chains.in_catalog(installation, signer)]
            faults += _against(signer, walked.digests, known, delivered.get(signer, 0), len(chain.numbers))
            for other, there in others.items():
                if signer in there:
                    faults += _against_other(walked.digests, len(known), other, there[signer])
    for other, there in others.items():
        # What the catalog does not know either, and never brought here.
        strange = there.keys() - listed.keys() - delivered.keys() - set(catalog.signers())
        faults += [f"signer {signer}: vault '{other}' has its records, this one has none" for signer in sorted(strange)]
    return Checked(name, tuple(heads), (*faults, *_unpinned(heads, pinned)))


def check_export(installation: Installation | None, found: bundle.Bundle, path: Path, pinned: Sequence[str]) -> Checked:
    """Check what an export lacks of what the catalog has, and whose keys signed it.

    It must end with no record that was written before the end of its period; what was written since is no fault.
    """
    heads, faults, notes = found.heads(), list(found.faults), []
    if installation is not None:
        ours = installation.catalog.signers()
        for signer in sorted(found.digests.keys() | set(ours)):
            if signer not in ours:
                notes.append(f"signer {signer} is not known to this installation's catalog")
                continue
            digests = found.digests.get(signer, [])
            records = list(chains.in_catalog(installation, signer))
            for number, (digest, record) in enumerate(zip(digests, records, strict=False), start=1):
                if record is not None and record.digest != digest:
                    faults.append(f"signer {signer}: record {number} is another one than the catalog's")
                    break
            if len(digests) > len(records):
                faults.append(f"signer {signer}: it has {len(digests)} records, and the catalog has {len(records)}")
            later = [record for record in records[len(digests) :] if record is not None]
            until = found.scope.until if found.scope else None
            cut = [each for each in later if until is None or _written_at(each) <= until]
            if cut:
                faults.append(
                    f"signer {signer}: its end was cut off: {counted(len(cut), 'record')} of its period missing"
                )
            elif later:
                notes.append(f"signer {signer}: {counted(len(later), 'record')} written since")
    return Checked(str(path), heads, (*faults, *_unpinned(heads, pinned)), tuple(notes))


def _written_at(record: Record) -> datetime:
    return moment_from_text(str(record.body["written_at"]))


def _unpinned(heads: Sequence[export.Head], pinned: Sequence[str]) -> list[str]:
    if not pinned:
        return []
    return [
        f"signer {head.fingerprint[:16]}: its key {head.fingerprint} is none whose records count"
        for head in heads
        if head.fingerprint not in pinned
    ]


def _listed(installation: Installation, vault: str) -> dict[str, chains.Chain]:
    """The chains in a vault by signer, also of what no signer can be called."""
    return chains.grouped(installation, {vault: RecordFiles(installation, vault).sizes("records")}, any_signer=True)


def _try(installation: Installation, vault: str) -> Mapping[str, chains.Chain]:
    try:
        return _listed(installation, vault)
    except VaultError:
        return {}


def _against(signer: str, digests: Sequence[str], known: Sequence[str], delivered: int, there: int) -> Iterator[str]:
    for number, (digest, ours) in enumerate(zip(digests, known, strict=False), start=1):
        if ours and digest != ours:
            yield f"signer {signer}: place {number} has another record than the catalog"
            break
    if there < delivered:
        yield f"signer {signer}: records were removed or cut off: it has {there}, and got {delivered}"
    if known and len(digests) > len(known):
        yield f"signer {signer}: it has {len(digests)} records, and the catalog only {len(known)}"


def _against_other(digests: Sequence[str], known: int, other: str, there: chains.Chain) -> Iterator[str]:
    """Another vault may have less, or what the catalog has not brought here yet; it may not have anything else."""
    signer, most = there.signer, there.numbers[-1]
    if most > max(len(digests), known):
        yield f"signer {signer}: its end was cut off: {len(digests)} records, and vault '{other}' has {most}"
    if not (shared := min(most, len(digests))):
        return
    with suppress(BackupsError):  # that vault's own fault
        for entry in there.at(shared):
            if isinstance(entry.found, Record) and entry.found.digest != digests[shared - 1]:
                yield f"signer {signer}: place {shared} has another record than vault '{other}'"
