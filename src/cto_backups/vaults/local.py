"""A vault in a local folder: what is stored is whole or not there, and durable once `put` returns.

How bytes get to the disk is in `durable`, and what says that a vault is there in `marker`; here is what the vault makes
of keys, folders and failures.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import StoredFile
from cto_backups.errors import (
    VaultError,
    VaultExistsError,
    VaultFullError,
    VaultMissingError,
    VaultReadOnlyError,
)
from cto_backups.vaults import durable
from cto_backups.vaults.marker import MARKER, check_key, identity_in, new_marker

_FOUND_BY_FSCK = "lost+found"  # stands at the root of an ext4 disk, unreadable for ordinary users, and is not ours


class LocalVault:
    """A vault below the folder `root`; implements `core.vaults.Vault`. Thread-safe, and safe between processes."""

    def __init__(self, name: str, root: Path) -> None:
        self._name = name
        self._root = root.absolute()
        self._prefix = str(self._root) + "/"

    @property
    def name(self) -> str:
        """Its name in the policy."""
        return self._name

    @property
    def location(self) -> str:
        """The folder's path."""
        return str(self._root)

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    @property
    def identity(self) -> str:
        """The id that the vault was given when it was made, to tell it from another. Raises VaultMissingError."""
        try:
            marker = (self._root / MARKER).read_bytes()
        except OSError as error:
            raise self._absent(error) from error
        return identity_in(marker, f"Vault {self._name} at {self._root}")

    def check(self) -> None:
        """Raise VaultMissingError when the vault is not there, VaultReadOnlyError when it cannot be written to."""
        _ = self.identity
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise self._read_only("it is mounted read-only, or its folder's mode does not let this user write")

    def create(self) -> None:
        """Make the folder and its marker; fine when they are there already. Raises VaultReadOnlyError, VaultError."""
        try:
            durable.make_folders(self._root)
        except OSError as error:
            raise self._failure(error, "make", str(self._root), writing=True) from error
        if (self._root / MARKER).exists():
            self.check()
            return
        try:
            durable.store(self._prefix + MARKER, [new_marker()], overwrite=False)
        except FileExistsError:
            self.check()  # somebody else made it in the meantime
        except OSError as error:
            raise self._failure(error, "store", MARKER, writing=True) from error

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined parts, whole or not at all, durable on return (mode 0600).

        Raises VaultExistsError when the key is there and `overwrite` is false; VaultFullError; VaultReadOnlyError.
        """
        path = self._path(key)
        try:
            try:
                durable.store(path, parts, overwrite=overwrite)
            except FileNotFoundError:
                # Only now, once a file, is it worth asking whether the disk is mounted at all.
                self.check()
                durable.make_folders(Path(path).parent)
                durable.store(path, parts, overwrite=overwrite)
        except FileExistsError as error:
            raise self._exists(key) from error
        except OSError as error:
            raise self._failure(error, "store", key, writing=True) from error

    def put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined pieces as they come, whole or not at all, durable on return (mode 0600).

        What the pieces raise is raised, and nothing is stored then. Raises what `put` raises.
        """
        path = self._path(key)
        self.check()
        try:
            durable.make_folders(Path(path).parent)
            durable.store(path, iter(pieces), overwrite=overwrite)
        except FileExistsError as error:
            raise self._exists(key) from error
        except OSError as error:
            raise self._failure(error, "store", key, writing=True) from error

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, `length` of them or all. Raises VaultMissingError; VaultError when there are fewer."""
        path = self._path(key)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                wanted = os.fstat(handle).st_size - offset if length is None else length
                content = os.pread(handle, wanted, offset) if wanted > 0 else b""
                while len(content) < wanted:  # one call gives at most 2 GiB
                    more = os.pread(handle, wanted - len(content), offset + len(content))
                    if not more:
                        break
                    content += more
            finally:
                os.close(handle)
        except OSError as error:
            raise self._failure(error, "read", key) from error
        if len(content) != wanted:
            raise self._short(key, offset, wanted, len(content))
        return content

    def read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with the bytes from `offset`. Raises VaultMissingError; VaultError when there are fewer."""
        path = self._path(key)
        filled = 0
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                while filled < buffer.nbytes:
                    more = os.preadv(handle, [buffer[filled:]], offset + filled)
                    if not more:
                        break
                    filled += more
            finally:
                os.close(handle)
        except OSError as error:
            raise self._failure(error, "read", key) from error
        if filled != buffer.nbytes:
            raise self._short(key, offset, buffer.nbytes, filled)

    def size(self, key: str) -> int:
        """Size in bytes. Raises VaultMissingError."""
        try:
            found = Path(self._path(key)).stat()
        except OSError as error:
            raise self._failure(error, "look up", key) from error
        if not stat.S_ISREG(found.st_mode):
            raise self._failure(FileNotFoundError(errno.ENOENT, "not a file"), "look up", key)
        return found.st_size

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every stored file below the folder `prefix` ("" for all), in no order, without temporary files."""
        prefix = prefix.rstrip("/")
        start = self._path(prefix) if prefix else str(self._root)
        reserved = {self._prefix + MARKER}
        for entry in self._walk(start):
            if not entry.name.startswith(durable.TEMPORARY) and entry.path not in reserved:
                try:
                    size = entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue  # deleted while we looked
                except OSError as error:
                    raise self._failure(error, "look up", entry.path[len(self._prefix) :]) from error
                yield StoredFile(entry.path[len(self._prefix) :], size)

    def delete(self, key: str) -> None:
        """Remove a stored file; fine when it is gone already. Raises VaultReadOnlyError, VaultMissingError."""
        path = self._path(key)
        # No fsync of the folder: a deletion that a power failure undoes is a deletion to do again, and nothing that
        # other stored files still need is ever deleted in the same breath.
        try:
            Path(path).unlink()
        except FileNotFoundError:
            _ = self.identity  # "gone already" must not be said of a disk that is not mounted
        except OSError as error:
            raise self._failure(error, "delete", key, writing=True) from error

    def sweep(self) -> int:
        """Remove the temporary files of dead writers; how many. Raises VaultMissingError, VaultReadOnlyError."""
        removed = 0
        for entry in self._walk(str(self._root)):
            if entry.name.startswith(durable.TEMPORARY) and durable.abandoned(Path(entry.path)):
                try:
                    Path(entry.path).unlink()
                except (FileNotFoundError, PermissionError):
                    continue  # gone meanwhile, or another user's to remove
                except OSError as error:
                    raise self._failure(error, "delete", entry.path, writing=True) from error
                removed += 1
        return removed

    # -- how ----------------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        check_key(key, self._name)
        return self._prefix + key

    def _walk(self, start: str) -> Iterator[os.DirEntry[str]]:
        """Every regular file below `start`, links not followed."""
        folders = [start]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    found = list(entries)
            except (FileNotFoundError, NotADirectoryError):
                if folder == start:
                    _ = self.identity  # an empty answer must not be given for a disk that is not mounted
                continue
            except OSError as error:
                raise self._failure(error, "list", folder[len(self._prefix) :]) from error
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != _FOUND_BY_FSCK:
                        folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry
        if start == str(self._root):
            _ = self.identity

    # -- what to say --------------------------------------------------------------------------------------------------

    def _failure(self, error: OSError, doing: str, key: str, *, writing: bool = False) -> VaultError:
        what = f"Vault {self._name} at {self._root} cannot {doing} {key}"
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                return VaultFullError(
                    f"Vault {self._name} at {self._root} is full",
                    why=f"{_reason(error)} while storing {key}",
                    todo="Free or add space there, then run again; what was stored before is intact.",
                )
            case errno.EROFS:
                return self._read_only(f"{_reason(error)}: {key}")
            case errno.EACCES | errno.EPERM if writing:
                return self._read_only(f"{_reason(error)}: {key}")
            case errno.ENOENT | errno.EISDIR | errno.ENOTDIR if not writing:
                if not (self._root / MARKER).exists():
                    return self._absent(error)
                return VaultMissingError(
                    f"Vault {self._name} has no {key}",
                    why=f"there is no such file below {self._root}",
                    todo="Verify this vault; if the file should be there, it has lost data.",
                )
            case errno.ENOENT:
                return self._absent(error)
            case errno.EIO:
                return VaultError(what, why=_reason(error), todo="The disk may be failing: look at the kernel's log.")
        return VaultError(what, why=_reason(error), todo="Make the folder usable, then run again.")

    def _exists(self, key: str) -> VaultExistsError:
        return VaultExistsError(
            f"Vault {self._name} holds {key} already",
            why="stored files are never rewritten in passing",
            todo="Nothing, unless the two differ: then find out who else writes to this vault.",
        )

    def _short(self, key: str, offset: int, wanted: int, there: int) -> VaultError:
        return VaultError(
            f"Vault {self._name}: {key} is shorter than it should be",
            why=f"{wanted} bytes from {offset} were asked for, {there} are there",
            todo="Verify this vault; it has lost data.",
        )

    def _absent(self, error: OSError) -> VaultError:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return VaultMissingError(
                f"Vault {self._name} is not at {self._root}",
                why=f"there is no marker file {MARKER}: its disk is not mounted, or the vault was never made",
                todo="Mount the disk, or correct the vault's url in the policy. "
                f"A vault that is new is made by: cto.backups vault init {self._name}",
            )
        return VaultError(
            f"Vault {self._name} at {self._root} cannot be looked into",
            why=_reason(error),
            todo="Make the folder readable for the user who runs cto.backups.",
        )

    def _read_only(self, why: str) -> VaultReadOnlyError:
        return VaultReadOnlyError(
            f"Vault {self._name} at {self._root} cannot be written to",
            why=why,
            todo="Mount it read-write, or make its folder writable for the user who runs cto.backups.",
        )


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else type(error).__name__
