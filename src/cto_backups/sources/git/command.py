"""git, run so that only the repository and our arguments matter, and that it never asks anything."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from cto_backups.core.limits import UNLIMITED, Limit, at_most
from cto_backups.errors import SourceError
from cto_backups.process import ToolError, ToolMissingError, ToolTimeoutError, run

_SCP_LIKE = re.compile(r"[^/]+:")
_SETTINGS = {
    "gc.auto": "0",
    "fetch.unpackLimit": "1",  # what arrives stays one checked pack, not thousands of files
    "maintenance.auto": "false",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "advice.detachedHead": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "120",
    "fetch.fsckObjects": "false",  # old, oddly written objects must be kept too; they are checked by their digest
}
# The other end of a local fetch refuses a repository of another user unless it is told, and only this tells it.
_LOCAL_UPLOAD_PACK = "--upload-pack=git -c 'safe.directory=*' upload-pack"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a repository is: `url` without credentials, `secret` with them if there are any; `path` if it is local."""

    url: str
    secret: str | None = None
    path: Path | None = None


def address(url: str) -> Address:
    """Take a configured URL apart; what stands before the host of an http(s) URL is a secret."""
    if "://" not in url:
        if _SCP_LIKE.match(url) and not Path(url).exists():
            return Address(url)
        path = Path(os.path.normpath(Path(url).expanduser().absolute()))
        return Address(str(path), path=path)
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Address(url, path=Path(unquote(parts.path)))
    if parts.scheme in ("http", "https") and "@" in parts.netloc:
        clean = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return Address(clean, secret=url)
    if parts.password is not None:
        user = f"{parts.username}@" if parts.username else ""
        clean = urlunsplit(parts._replace(netloc=user + parts.netloc.rpartition("@")[2]))
        return Address(clean, secret=url)
    return Address(url)


class Git:
    """Runs git for one source; every method raises ToolError."""

    def __init__(self, place: Address, timeout_seconds: float, limit: Limit = UNLIMITED) -> None:
        self.place = place
        self._limit = limit
        self.timeout_seconds = timeout_seconds
        self._near = _environment(None)
        self._far = _environment(place)

    def within(self, limit: Limit) -> "Git":
        """The same, whose calls end when the limit does."""
        return Git(self.place, self.timeout_seconds, limit)

    def local(
        self, folder: Path, *arguments: str, given: bytes | None = None, variables: Mapping[str, Path] | None = None
    ) -> bytes:
        """Run it on a repository of ours, regardless of this user's settings."""
        environment = {**self._near, **{key: str(value) for key, value in (variables or {}).items()}}
        command = ["git", "--git-dir", str(folder), *arguments]
        return run(
            command, environment=environment, timeout_seconds=at_most(self._limit, self.timeout_seconds), given=given
        )

    def remote(self, *arguments: str, folder: Path | None = None) -> bytes:
        """Run it toward the source, with this user's settings (how to sign in, by which proxy)."""
        where = ["--git-dir", str(folder)] if folder is not None else []
        return run(
            ["git", *where, *arguments],
            environment=self._far,
            timeout_seconds=at_most(self._limit, self.timeout_seconds),
        )

    @property
    def upload_pack(self) -> tuple[str, ...]:
        """The option with which to ask a local source for its content."""
        return (_LOCAL_UPLOAD_PACK,) if self.place.path is not None else ()

    def at_source(self, path: Path, *arguments: str) -> bytes:
        """Ask a local source something."""
        command = ["git", "-C", str(path), *arguments]
        return run(command, environment=self._near, timeout_seconds=at_most(self._limit, self.timeout_seconds))


def refusal(name: str, place: Address, error: ToolError) -> SourceError:
    """What a failure of git means to whom it may concern."""
    what = f"source {name}: {place.url} cannot be read"
    if isinstance(error, ToolMissingError):
        return SourceError(what, why="git is not installed", todo="install the package git")
    if isinstance(error, ToolTimeoutError):
        return SourceError(what, why=error.detail, todo="check the network, or give this source more `timeout_seconds`")
    said = error.detail.lower()
    if any(sign in said for sign in _SIGN_IN):
        todo = "check the credentials: git must be able to sign in without asking (a credential helper, or an SSH key)"
    elif any(sign in said for sign in ("resolve host", "unable to access", "connection", "timed out", "unreachable")):
        todo = "check the network and the host's name, then try again"
    elif any(sign in said for sign in ("not appear to be a git repo", "not found", "does not exist", "not a git repo")):
        todo = "correct `url` of this source in the policy: there is no git repository there"
    else:
        todo = "try the same with `git ls-remote`"
    return SourceError(what, why=error.detail, todo=todo)


_SIGN_IN = (
    *("authentication failed", "permission denied", "access denied", "host key verification failed"),
    *("could not read username", "could not read password", "terminal prompts disabled"),
)


def _environment(place: Address | None) -> Mapping[str, str]:
    """The environment for git: for work on our own files (`place` None), or toward a source."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or (place is not None and name in _KEPT)
    }
    environment.update(
        GIT_TERMINAL_PROMPT="0",
        GIT_CONFIG_NOSYSTEM="1",
        GIT_OPTIONAL_LOCKS="0",
        GIT_NO_REPLACE_OBJECTS="1",
        GIT_ALLOW_PROTOCOL="file:git:http:https:ssh",
        GIT_LFS_SKIP_SMUDGE="1",
        SSH_ASKPASS_REQUIRE="never",
        LC_ALL="C",
    )
    settings = dict(_SETTINGS)
    if place is None:
        environment["GIT_CONFIG_GLOBAL"] = os.devnull
        settings["safe.directory"] = "*"
    elif place.secret is not None:
        # By the environment, not as an argument: arguments can be seen by everybody on this machine.
        settings[f"url.{place.secret}.insteadOf"] = place.url
    environment["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (key, value) in enumerate(settings.items()):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


_KEPT = frozenset(
    {"GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"}
    | {"GIT_CONFIG_GLOBAL", "GIT_PROXY_COMMAND", "GIT_HTTP_USER_AGENT", "GIT_SSL_CERT", "GIT_SSL_KEY", "GIT_EXEC_PATH"}
)
