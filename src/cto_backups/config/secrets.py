"""Secrets by reference: ``file:PATH``, ``env:NAME``, ``command:CMD``; never inline, never shown.

A reference is safe to print. What it resolves to is a `Secret`, whose text shows only through `reveal`.
"""

import contextlib
import errno
import hmac
import os
import re
import secrets
import shlex
import stat
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from cto_backups.config.redaction import HIDDEN, redact, remember
from cto_backups.errors import KeyProblemError, RefusedError

LARGEST_BYTES = 64 * 1024
COMMAND_SECONDS = 60.0

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HOW = "Write file:PATH, env:NAME or command:CMD, and keep the secret itself out of the policy file."


class Secret:
    """A secret value. Printing, formatting and pickling do not show it; log redaction knows it from now on."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        remember(value)

    def reveal(self) -> str:
        """The value itself: for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere by itself")


class SecretKind(StrEnum):
    """Where a reference points."""

    FILE = "file"
    ENVIRONMENT = "env"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a secret is; printable. `place` is a path, the name of an environment variable, or a command line."""

    kind: SecretKind
    place: str

    @classmethod
    def parse(cls, text: str) -> "SecretReference":
        """Read ``file:PATH``, ``env:NAME`` or ``command:CMD``.

        Raises KeyProblemError, which does not repeat the text: it may be the secret itself.
        """
        prefix, colon, place = text.partition(":")
        place = place.strip()
        kind = next((kind for kind in SecretKind if colon and prefix.strip() == kind.value), None)
        if kind is None:
            raise KeyProblemError("A key is written where a reference to it belongs", todo=_HOW)
        if not place or "\0" in place:
            raise KeyProblemError(f"The reference {kind.value}: says nothing after the colon", todo=_HOW)
        if kind is SecretKind.ENVIRONMENT and not _VARIABLE.match(place):
            raise KeyProblemError(
                "The reference env: is not followed by the name of an environment variable",
                why="a name has letters, digits and underscores, and does not start with a digit",
                todo=_HOW,
            )
        if kind is SecretKind.COMMAND:
            try:
                words = shlex.split(place)
            except ValueError as error:
                words, reason = [], str(error)
            else:
                reason = "there is no command"
            if not words:
                raise KeyProblemError("The reference command: cannot be read", why=reason, todo=_HOW)
        return cls(kind, place)

    def __str__(self) -> str:
        return redact(f"{self.kind.value}:{self.place}")

    def __repr__(self) -> str:
        return f"SecretReference({str(self)!r})"

    def path(self, base: Path) -> Path | None:
        """The file that a ``file:`` reference means, relative ones below `base`; None for the other kinds."""
        if self.kind is not SecretKind.FILE:
            return None
        try:
            place = Path(self.place).expanduser()
        except RuntimeError as error:
            raise KeyProblemError(f"Key {self}: the home folder is not known", why=str(error)) from None
        return base / place

    def resolve(self, base: Path) -> Secret:
        """The secret, without the line end after it; relative paths and commands start at the folder `base`.

        Raises KeyProblemError that names the reference when it is missing, unreadable, empty, not UTF-8, larger than
        64 KiB, or a file that others may read.
        """
        readers: dict[SecretKind, Callable[[Path], bytes]] = {
            SecretKind.FILE: self._read_file,
            SecretKind.ENVIRONMENT: self._read_environment,
            SecretKind.COMMAND: self._run_command,
        }
        raw = readers[self.kind](base)
        if len(raw) > LARGEST_BYTES:
            raise KeyProblemError(f"Key {self} is not a key", why="it is larger than 64 KiB")
        text = raw.decode("utf-8", errors="replace")
        if "\ufffd" in text or "\0" in text:
            # Not from a UnicodeDecodeError, which would carry the value along.
            raise KeyProblemError(f"Key {self} is not text", why="it is not UTF-8", todo="Store the key as text.")
        text = text.rstrip("\r\n")
        if not text:
            raise KeyProblemError(f"Key {self} is empty", todo="Put the key there, or correct the reference.")
        return Secret(text)

    def _read_file(self, base: Path) -> bytes:
        path = self.path(base)
        assert path is not None  # only called for files
        try:
            # Not blocking, so that a pipe in place of the file is told, not waited for.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise KeyProblemError(
                f"Key {self} is missing",
                why=f"there is no file {path}",
                todo="A password or the like: write it there, with mode 600. A key of these backups: put the file back "
                "from where you keep its spare copy; without it nothing can be restored.",
            ) from None
        except OSError as error:
            raise KeyProblemError(f"Key {self} cannot be read", why=f"{path}: {error.strerror}") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KeyProblemError(
                    f"Key {self} is not a file",
                    why=f"{path} is a folder or a special file",
                    todo="Name the file that the key is in.",
                )
            if status.st_mode & 0o077:
                raise KeyProblemError(
                    f"Key {self} can be read by others",
                    why=f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, and a key must be for its owner alone",
                    todo=f"Run: chmod 600 {shlex.quote(str(path))}",
                )
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(LARGEST_BYTES + 1)
        except OSError as error:
            raise KeyProblemError(f"Key {self} cannot be read", why=f"{path}: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def _read_environment(self, _base: Path) -> bytes:
        value = os.environb.get(self.place.encode())
        if value is None:
            raise KeyProblemError(
                f"Key {self} is missing",
                why=f"the environment variable {self.place} is not set",
                todo=f"Set {self.place} for this process, or point the policy at another reference.",
            )
        return value

    def _run_command(self, base: Path) -> bytes:
        by_hand = f"Run it by hand in {base} to see why."
        expired = threading.Event()
        process: subprocess.Popen[bytes] | None = None

        def stop() -> None:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)

        def expire() -> None:
            expired.set()
            stop()

        timer = threading.Timer(COMMAND_SECONDS, expire)
        timer.daemon = True
        timer.start()
        try:
            # Its error output stays unread: it may hold what it was asked for.
            process = subprocess.Popen(
                shlex.split(self.place),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=base,
                start_new_session=True,
            )
            assert process.stdout is not None  # asked for above
            with process.stdout:
                output = process.stdout.read(LARGEST_BYTES + 1)
            if len(output) > LARGEST_BYTES:
                stop()
            process.wait()
        except OSError as error:
            raise KeyProblemError(f"Key {self}: the command does not start", why=f"{error.strerror}") from None
        except BaseException:
            stop()  # in a session of its own, it does not get the signal that interrupts us
            raise
        finally:
            timer.cancel()
        if len(output) > LARGEST_BYTES:
            return output
        if expired.is_set():
            raise KeyProblemError(f"Key {self}: no answer within {COMMAND_SECONDS:.0f} seconds", todo=by_hand)
        if process.returncode:
            raise KeyProblemError(
                f"Key {self}: the command failed", why=f"exit status {process.returncode}", todo=by_hand
            )
        return output


def create_file_secret(path: Path, value: str) -> None:
    """Write a new key file: mode 0600, missing folders 0700, whole or not at all, durable on return.

    Raises RefusedError when something is there already (a lost key is lost data), KeyProblemError when it cannot be
    written.
    """
    remember(value)
    try:
        _make_folders(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        try:
            _write_new(temporary, value)
            try:
                os.link(temporary, path)  # unlike rename, never replaces
            except OSError as error:
                if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
                    raise
                _write_new(path, value)  # a filesystem without hard links
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError:
        raise RefusedError(
            f"The key file {path} exists already",
            why="a key that is overwritten is lost, and with it everything sealed with it",
            todo="Use the key that is there, or move the file away yourself.",
        ) from None
    except OSError as error:
        raise KeyProblemError(
            f"The key file {path} cannot be written",
            why=f"{error.strerror}",
            todo="Name a place where this user may make files, on a disk with room.",
        ) from error


def _write_new(path: Path, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(value.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _make_folders(folder: Path) -> None:
    missing = [folder, *folder.parents]
    missing = missing[: next(i for i, place in enumerate(missing) if place.exists())]
    for place in reversed(missing):
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
            sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
