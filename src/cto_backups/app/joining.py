"""Join a fleet, on the host: what a bundle holds becomes an installation that works."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups.app import POLICY_NAME, ProgressFactory, opened, silent
from cto_backups.config.bundle import LARGEST_BYTES, Bundle, unseal
from cto_backups.errors import BackupsError, KeyProblemError, NotFoundError, RefusedError
from cto_backups.process import HOST_VARIABLE, host

if TYPE_CHECKING:
    from cto_backups.config import Configuration


@dataclass(frozen=True)
class Joined:
    """The host's policy, what people still do here, and the vaults that do not open yet, each with why."""

    host: str
    policy: Path
    left: tuple[str, ...]
    problems: Mapping[str, BackupsError]


def read(path: Path, passphrase: Callable[[], str]) -> Bundle:
    """The bundle in a file; the passphrase is asked for once that is read. Raises NotFoundError, KeyProblemError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise NotFoundError(
            f"The enrolment {path} cannot be read",
            why=error.strerror or type(error).__name__,
            todo="Name the file that 'host enrol' wrote. One that was used is gone: have this host enrolled again.",
        ) from None
    return unseal(content, passphrase())


def join(bundle: Bundle, home: Path, *, progress: ProgressFactory = silent) -> Joined:
    """Make the installation in the folder `home`. After a killed run it is run again, with the same folder.

    Raises RefusedError on another host, where a policy or other keys are there, and when the bundle was used before.
    """
    from cto_backups.config import load

    home, here = home.absolute(), host()
    if bundle.host.lower() != here.lower():
        raise RefusedError(
            f"This enrolment is of host '{bundle.host}', and this host is called '{here}'",
            why="what a host does is known by its name",
            todo=f"Take it to that host; enrol this one under its name; or set ${HOST_VARIABLE} here, for good.",
        )
    path = home / POLICY_NAME
    if path.exists():
        raise RefusedError(f"{path} is there already", todo="Choose another folder with --home.")
    resumed = _put_secrets(bundle, home)
    draft = path.with_suffix(".yaml.new")
    draft.write_text(bundle.policy, encoding="utf-8")
    _note_joined(load(draft), resumed=resumed)
    draft.rename(path)  # last: a home with a policy file is a whole installation
    problems: dict[str, BackupsError] = {}
    with opened(path, progress=progress) as opening:
        for vault in opening.configuration.policy.vaults:
            try:
                opening.installation.store(vault)
            except BackupsError as error:
                problems[vault] = error
    return Joined(bundle.host, path, bundle.left, problems)


def _put_secrets(bundle: Bundle, home: Path) -> bool:
    """Write the keys; whether a run before has done so."""
    from cto_backups.config.secrets import create_file_secret

    there = 0
    for name, secret in bundle.files.items():
        place = home / name
        if place.exists():
            if place.read_text(encoding="utf-8").strip() != secret:
                raise KeyProblemError(
                    f"The key file {place} is there already, and it is another one",
                    why="a key that is overwritten is lost, and with it everything sealed with it",
                    todo="Choose another folder with --home.",
                )
            there += 1
            continue
        create_file_secret(place, secret)
    return there > 0


def _note_joined(configuration: "Configuration", *, resumed: bool) -> None:
    from cto_backups.catalog.postgresql import hosts as roles

    settings = configuration.settings
    try:
        roles.join(settings.catalog_url, settings.catalog_login)
    except RefusedError:
        if not resumed:
            raise
