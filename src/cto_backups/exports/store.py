"""The store of exports beside a vault's repository, as a payload store: the entrance to this package."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace

from cto_backups.core.payloads import (
    Committed,
    Contents,
    Damage,
    LeftBy,
    Needed,
    PayloadStore,
    Repaired,
    RepairScope,
    Verified,
    Writing,
)
from cto_backups.core.ports import PointReader, Progress, Silent
from cto_backups.core.pruning import Pruned, PrunePlan
from cto_backups.core.vaults import StoredFile, Vault
from cto_backups.core.verification import Ledger, Part
from cto_backups.errors import DamageError, NotFoundError, VaultLockedError
from cto_backups.exports import layout, manifest
from cto_backups.exports.files import ExportFiles
from cto_backups.repository.index import load_index
from cto_backups.repository.locks import locked, locked_for_reading
from cto_backups.repository.snapshot import load_snapshot
from cto_backups.repository.store import RepositoryStore
from cto_backups.repository.stored import checked_name


class ExportStore:
    """Natively stored objects under `prefix` in the vault of a repository, whose key seals what is not plain.

    Implements `core.payloads.PayloadStore`.
    """

    def __init__(self, beside: RepositoryStore, vault: Vault, prefix: str) -> None:
        self.files = ExportFiles(vault, prefix, beside.files.sealer)
        self._store = beside.over(self.files)

    @property
    def vault(self) -> Vault:
        """The vault it lies in."""
        return self.files.view.vault

    def writing(self) -> AbstractContextManager[Writing]:
        """Open for writing. Raises BusyError while somebody holds an exclusive lock."""
        return self._session()

    @contextmanager
    def _session(self) -> Iterator[Writing]:
        from cto_backups.exports.session import ExportSession

        self.vault.check()
        self.files.view.forget()
        with locked(self.files, exclusive=False) as lock:
            yield ExportSession(self.files, self._store.polynomial, self._store.options, lock)

    def reader(self, reference: str) -> PointReader:
        """Read one reference. Raises NotFoundError, DamageError."""
        from cto_backups.exports.reading import ExportReader

        snapshot = load_snapshot(self.files, checked_name(self.files, reference))
        return ExportReader(self._store.reader(reference), self.files, snapshot.tree)

    def contents(self) -> Contents:
        """Look into everything that is stored."""
        return self._store.contents()

    def verify(
        self,
        references: Sequence[str] | None = None,
        *,
        read_data: bool = True,
        part: Part | None = None,
        ledger: Ledger | None = None,
        progress: Progress | None = None,
    ) -> Verified:
        """Check structure and manifests, and with `read_data` re-read every byte, of these references or everything.

        With `part`, re-read only the next portion of everything, by what the ledger says was read before.
        """
        self.files.view.forget()
        verified = self._store.verify(references, read_data=read_data, part=part, ledger=ledger, progress=progress)
        with locked_for_reading(self.files):
            wrong = tuple(self._wrong_manifests(verified.references))
        return replace(
            verified,
            files_read=verified.files_read + len(verified.references),
            damages=verified.damages + wrong,
        )

    def _wrong_manifests(self, references: Iterable[str]) -> Iterator[Damage]:
        for reference in references:
            try:
                why = manifest.wrong_with(self.files, load_snapshot(self.files, reference).document)
            except (NotFoundError, DamageError):
                continue  # expired meanwhile, or found already
            if why is not None:
                yield Damage(f"manifest of {reference[:12]} is damaged", why, (reference,))

    def committed(self) -> Sequence[Committed]:
        """Everything committed, oldest first; what cannot be read is listed with `detail["damage"]` and no root."""
        return self._store.committed()

    def expire(self, references: Sequence[str], progress: Progress | None = None) -> None:
        """Drop references, and their manifests (fine when they are gone already); objects go by a later prune.

        Raises VaultLockedError in the end, when some are `left` since the store keeps them. The manifest of one that
        went, and that the store keeps by itself, is cleared by a later prune.
        """
        names = self._manifests(references)
        kept: VaultLockedError | None = None
        try:
            self._store.expire(references, progress)
        except VaultLockedError as error:
            kept = error
        for reference, name in names.items():
            if kept is None or reference not in kept.left:
                self._delete(self.files.key(manifest.FOLDER, name))
        if kept is not None:
            raise kept

    def _manifests(self, references: Iterable[str]) -> dict[str, str]:
        """The names of the manifests of those that can be read, by their references."""
        names = {}
        for reference in references:
            try:
                name = manifest.name_of(load_snapshot(self.files, checked_name(self.files, reference)).document)
            except (NotFoundError, DamageError):
                continue
            if name:
                names[reference] = name
        return names

    def _delete(self, key: str) -> None:
        """Delete a file that nobody needs; one that the store still keeps goes another time."""
        with suppress(VaultLockedError):
            self.vault.delete(key)

    def needed_by(self, references: Sequence[str]) -> Needed:
        """The files in the vault without which these cannot be restored: objects whole, with their manifests."""
        from cto_backups.repository.needed import needed_by

        view = self.files.view
        view.forget()
        found = needed_by(self.files, references)
        keys = {place for key in found.keys for place in view.places(key)}
        keys.update(self.files.key(manifest.FOLDER, name) for name in self._manifests(references).values())
        return Needed(frozenset(keys), found.unread)

    def lapsing(self, dropped: Sequence[str]) -> Collection[str]:
        """Keys of files whose locks may end: of dropped references, and of what no index lists."""
        index = load_index(self.files)
        packs = {index.pack_name(number) for number in range(index.pack_count)}
        sections = {layout.section_of(pack).object for pack in packs}
        view = self.files.view
        view.forget()
        keys = [self.files.key("snapshots", checked_name(self.files, reference)) for reference in dropped]
        told = set(self._manifests(self.files.names("snapshots")).values()) - set(self._manifests(dropped).values())
        keys += [file.key for file in self._manifest_files() if file.key.rpartition("/")[2] not in told]
        for name in self.files.pack_sizes():
            if not view.is_object(name):
                keys += [] if name in packs else [view.tree_key(name.hex())]
            elif (named := layout.section_of(name).object) not in sections:
                keys += [view.object_key(named), view.parts_key(named)]
        return dict.fromkeys(keys).keys()

    def _manifest_files(self) -> Sequence[StoredFile]:
        return list(self.vault.list(self.files.key(manifest.FOLDER, "x").rpartition("/")[0]))

    def prune(
        self,
        *,
        dry_run: bool = False,
        expected: Callable[[], Iterable[str]] = tuple,
        agree: Callable[[PrunePlan], None] | None = None,
        progress: Progress | None = None,
    ) -> Pruned:
        """Reclaim what no reference needs, or only say how. Raises BusyError, DamageError, VaultError."""
        from cto_backups.exports.needs import ObjectNeeds

        self.files.view.forget()
        pruned = self._store.prune(
            dry_run=dry_run, expected=expected, agree=agree, progress=progress, adjust=ObjectNeeds(self.files)
        )
        if pruned.done:
            self._clear()
        return pruned

    def _clear(self) -> None:
        """Delete what killed runs left: manifests that no snapshot tells of, and what is known of objects now gone."""
        with locked(self.files, exclusive=True):
            told = set()
            for name in self.files.names("snapshots"):
                try:
                    told.add(manifest.name_of(load_snapshot(self.files, name).document))
                except DamageError:
                    return  # what it tells of is not known
            for file in self._manifest_files():
                if file.key.rpartition("/")[2] not in told:
                    self._delete(file.key)
            there = set(self.files.view.objects())
            index = load_index(self.files)
            there |= {index.pack_name(number)[:24].hex() for number in range(index.pack_count)}
            for file in list(self.vault.list(self.files.view.parts_key("xx").rpartition("/xx/")[0])):
                if file.key.rpartition("/")[2] not in there:
                    self._delete(file.key)

    def repair(
        self,
        donors: Sequence[PayloadStore] = (),
        *,
        scope: RepairScope = RepairScope.EVERYTHING,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Repaired:
        """Put right what is damaged: objects in their place, the rest as in a repository, manifests last.

        A manifest is made again from its tree. Where it comes out other than its snapshot tells, or its tree is lost,
        the reference is told as one that cannot be read: who knows of which point it is can bring that again.

        Raises BusyError, VaultError.
        """
        from cto_backups.exports.mending import Mended, mend

        self.files.view.forget()
        mended = Mended()
        if not dry_run and scope is not RepairScope.INDEX:
            self.vault.check()
            mended = mend(self.files, self._store.options.threads, donors, scope, progress or Silent())
            self.files.view.forget()
        repaired = self._store.repair(donors, scope=scope, dry_run=dry_run, progress=progress)
        told: dict[str, tuple[Damage, bool]] = {}
        if scope is not RepairScope.INDEX:
            told = self._mend_manifests(repaired.unreadable, dry_run=dry_run)
        fetched = dict(repaired.fetched_blobs)
        for vault, count in mended.fetched.items():
            fetched[vault] = fetched.get(vault, 0) + count
        return replace(
            repaired,
            damages=(*mended.damages, *repaired.damages, *(damage for damage, _ in told.values())),
            unreadable=(*repaired.unreadable, *(reference for reference, (_, right) in told.items() if not right)),
            salvaged_blobs=repaired.salvaged_blobs + mended.salvaged,
            fetched_blobs=dict(sorted(fetched.items())),
            added_bytes=repaired.added_bytes + mended.added_bytes,
            troubles=tuple(dict.fromkeys((*mended.troubles, *repaired.troubles))),
        )

    def _mend_manifests(self, unreadable: Collection[str], *, dry_run: bool) -> dict[str, tuple[Damage, bool]]:
        """What is wrong with manifests, by reference, and whether it has been put right, or a dry run would try to."""
        found: dict[str, tuple[Damage, bool]] = {}
        with locked_for_reading(self.files) if dry_run else locked(self.files, exclusive=True):
            references = [name for name in self.files.names("snapshots") if name not in unreadable]
            wrong = list(self._wrong_manifests(references))
            index = load_index(self.files) if wrong and not dry_run else None
            for damage in wrong:
                (reference,) = damage.references
                right = True
                if index is not None:
                    try:
                        right = manifest.make_again(self.files, index, load_snapshot(self.files, reference))
                    except DamageError:
                        right = False
                found[reference] = damage, right
        return found

    def seal(self, content: bytes) -> bytes:
        """Encrypt and authenticate what lies in the vault beside it."""
        return self._store.seal(content)

    def unseal(self, sealed: bytes) -> bytes:
        """What `seal` was given. Raises DamageError."""
        return self._store.unseal(sealed)

    def clear_leftovers(self, *, own: bool = False, left: LeftBy | None = None) -> tuple[str, ...]:
        """Clear what a killed process left, of locks only this user's on this host with `own`; in sentences."""
        return self._store.clear_leftovers(own=own, left=left)
