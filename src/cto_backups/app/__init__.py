"""The composition root: a policy file becomes an `Installation`, its adapters opened when they are first asked for."""

import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cto_backups import clock, registry
from cto_backups.app.adapters import Adapters, own_places
from cto_backups.app.changes import PolicyChanges as PolicyChanges
from cto_backups.app.changes import ProgramChanges as ProgramChanges
from cto_backups.errors import CatalogError, KeyProblemError, NotFoundError, PolicyError
from cto_backups.process import host

if TYPE_CHECKING:
    from cto_backups.catalog.catalog import Catalog
    from cto_backups.config import Configuration
    from cto_backups.config.edit import Change
    from cto_backups.core.policy import Policy
    from cto_backups.core.ports import Progress
    from cto_backups.flows.installation import Installation
    from cto_backups.flows.queue_port import FleetQueue

POLICY_VARIABLE = "CTO_BACKUPS_POLICY"
POLICY_NAME = "backups.yaml"


ProgressFactory = Callable[[str], "AbstractContextManager[Progress]"]


def silent(_title: str) -> "AbstractContextManager[Progress]":
    """Progress displays for when nobody watches."""
    from cto_backups.core.ports import Silent

    return nullcontext(Silent())


def find_policy(given: Path | None) -> Path:
    """The policy file meant: the one given, or $CTO_BACKUPS_POLICY, or the usual places. Raises NotFoundError."""
    named = given or (Path(os.environ[POLICY_VARIABLE]) if os.environ.get(POLICY_VARIABLE) else None)
    if named is not None:
        return named / POLICY_NAME if _holds(named.is_dir) else named
    places = [Path(POLICY_NAME), Path("cto-backups") / POLICY_NAME]
    for place in places:
        if _holds(place.is_file):
            return place
    raise NotFoundError(
        "There is no policy file here",
        why=f"looked for {' and '.join(str(place) for place in places)} in {Path.cwd()}",
        todo=f"Make one with 'cto.backups init', or name it with --policy FILE or ${POLICY_VARIABLE}.",
    )


def _holds(question: Callable[[], bool]) -> bool:
    """The answer to a question about a path; no for a path that may not be looked at."""
    try:
        return question()
    except OSError:
        return False


@dataclass
class Opened:
    """An opened installation; `recovered` says what was put right after runs that were killed, `notices` what in the
    policy waits for an approval. `written`: whether this may have made facts. `adapters` are those of the installation,
    which know what was opened with which secret, and what was asked of whom.
    """

    installation: "Installation"
    configuration: "Configuration"
    adapters: Adapters
    recovered: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    written: bool = False


def nothing(_policy: "Policy") -> None:
    """No vault's repository is needed for sure."""


@contextmanager
def opened(
    policy: "Path | Configuration",
    *,
    progress: ProgressFactory = silent,
    write: "bool | Callable[[Policy], bool]" = True,
    ahead: Callable[["Policy"], str | None] = nothing,
    in_haste: bool = False,
) -> Iterator[Opened]:
    """Open what a policy file, or one that was loaded, names. Raises PolicyError, KeyProblemError, CatalogError.

    With `write`, which may depend on the policy, that is brought into the catalog and what killed runs left is put
    right first; readers leave everything as it is. Vaults and repositories are opened when first asked for, so that a
    missing one hurts only its users. `ahead` names a vault whose repository is needed for sure: it is opened while the
    rest is. `in_haste` does without the bandwidth limits of vaults.
    """
    from cto_backups.config import load

    configuration = load(policy) if isinstance(policy, Path) else policy
    adapters = Adapters(configuration, in_haste=in_haste)
    if (needed := ahead(configuration.policy)) is not None:
        adapters.open_ahead(needed)  # before the catalog is asked for anything
    try:
        if not isinstance(write, bool):
            write = _would_write(configuration, write)
        with assembled(configuration, adapters, progress=progress, write=write) as opening:
            opening.written = write
            yield opening
    finally:
        adapters.close()


@contextmanager
def assembled(
    configuration: "Configuration",
    adapters: Adapters,
    *,
    progress: ProgressFactory,
    write: bool,
    review: bool = True,
    known: bool = False,
) -> Iterator[Opened]:
    """Put the installation together around its catalog; see `opened`, which most callers want.

    Without `review` nothing is signed on the way: what records in vaults say is to be known first (`reviewed`).
    `known`: somebody else has brought the policy into the catalog, and goes on looking after that.
    """
    from cto_backups.catalog.catalog import Catalog
    from cto_backups.flows.installation import Installation

    settings = configuration.settings
    if write:
        _make_state(settings.state)
    catalog = Catalog.open(settings.catalog_url, now=clock.now(), write=write, password=settings.catalog_login)
    adapters.expect_repository = catalog.expect_repository
    adapters.fence = catalog.claims.check
    try:
        installation = Installation(
            policy=configuration.policy,
            policy_text=configuration.text,
            catalog=catalog,
            signer=_signing_key(configuration, needed=write),
            source=adapters.source,
            vault=adapters.vault,
            store=adapters.store,
            key_gone=adapters.key_gone,
            sandbox=registry.load(registry.SANDBOXES, "folder")(settings.state / "sandboxes"),
            state=settings.state,
            own=(configuration.path, *own_places(configuration)),
            host=host(),
            user=user(),
            progress=_telling(progress, adapters),
            channel=adapters.channel,
            watch=adapters.watch,
            report=adapters.report,
            uid=os.getuid(),
            travelled=adapters.travelled,
            examine=adapters.examine,
            bucket=adapters.bucket,
            queue=lambda: registry.load(registry.QUEUES, "embedded")(lanes=("", host())),
            sudo_user=os.environ.get("SUDO_USER") or None,
        )
        if write and review:
            from cto_backups.flows import failover

            catalog.takeover.look_first(installation.signer.signer, partial(failover.look, installation))
        opening = Opened(installation, configuration, adapters)
        if write and review and not known:
            opening = reviewed(opening)
        elif write and not known:
            catalog.sync_policy(configuration.policy, configuration.text, clock.now())
        else:
            bound = replace(installation, policy=_governed(configuration.policy, catalog))
            opening = Opened(bound, configuration, adapters)
        yield opening
        if write and (rest := adapters.travelled()):
            catalog.traffic.note("other", rest, clock.now())
    finally:
        catalog.close()


def _telling(progress: ProgressFactory, adapters: Adapters) -> ProgressFactory:
    """The same progress displays, which also tell when bandwidth limits are what takes the time."""
    if not any(vault.bandwidth for vault in adapters.configuration.policy.vaults.values()):
        return progress

    from cto_backups.core.ports import TellingLimits

    @contextmanager
    def opened_display(title: str) -> "Iterator[Progress]":
        with progress(title) as display:
            if isinstance(display, TellingLimits):
                display.tell_limits(adapters.limited)
            yield display

    return opened_display


def reviewed(opening: Opened) -> Opened:
    """Bring the policy into the catalog, under the rules that bind, and put right what killed runs left."""
    from cto_backups.flows import governance, rules
    from cto_backups.flows.recover import recover

    configuration, catalog = opening.configuration, opening.installation.catalog
    governed, told = rules.review(opening.installation)
    installation = replace(opening.installation, policy=configuration.policy.governed_by(governed))
    sources = governance.review_sources(installation)
    catalog.sync_policy(configuration.policy, configuration.text, clock.now(), keep=sources.keep)
    notices = told + sources.notices + governance.review_retentions(installation).notices
    return Opened(installation, configuration, opening.adapters, recover(installation), notices)


def _governed(policy: "Policy", catalog: "Catalog") -> "Policy":
    """The policy with the rules that bind, as far as the catalog can tell without being written to."""
    accepted = catalog.approvals.rules()
    if accepted is None or accepted == policy.governance:
        return policy
    from cto_backups.core.governing_rules import in_force

    return policy.governed_by(in_force(accepted, policy.governance))


def _would_write(configuration: "Configuration", write: Callable[["Policy"], bool]) -> bool:
    """Whether something is written, by the rules that bind; a catalog that cannot be read has its say later."""
    from cto_backups.catalog.catalog import Catalog

    policy, settings = configuration.policy, configuration.settings
    with (
        suppress(CatalogError),
        Catalog.open(settings.catalog_url, now=clock.now(), write=False, password=settings.catalog_login) as held,
    ):
        policy = _governed(policy, held)
    return write(policy)


def fleet_queue(configuration: "Configuration", warn: Callable[[str], None]) -> "FleetQueue | None":
    """The queue that the workers of a fleet share; None where the catalog is a file. Raises CatalogError, PolicyError.

    `warn` is told of what waits there that this worker does not understand.
    """
    from cto_backups.catalog.database import is_on_server

    settings, policy = configuration.settings, configuration.policy
    if not is_on_server(settings.catalog_url) or policy.enrolled_as is not None:
        return None
    made: FleetQueue = registry.load(registry.QUEUES, "postgresql")(
        settings.catalog_url, settings.catalog_login, lanes=("", host()), policy=policy.digest, warn=warn
    )
    return made


def user() -> str:
    """Who runs this, as the operating system has it: what variables such as LOGNAME say, anyone may set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _make_state(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        usable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
        why = f"the user {user()} may not write there"
    except OSError as error:
        usable, why = False, error.strerror or type(error).__name__
    if not usable:
        raise PolicyError(
            f"The state folder {folder} cannot be used",
            why=why,
            todo="Run this as the user who owns the folder, give it to this one, or correct `state` in the policy.",
        )


def _signing_key(configuration: "Configuration", *, needed: bool) -> Any:
    from cto_backups.evidence.records import SigningKey

    settings = configuration.settings
    try:
        key = SigningKey.load(settings.evidence_key.resolve(settings.home).reveal())
    except KeyProblemError as error:
        if needed:
            todo = "Put it back from its spare copy. Restores work without it, and so does all that only reads."
            raise KeyProblemError(error.what, why=error.why, todo=todo) from error
        # What only reads signs nothing: on the bad day the repository's key has to be enough.
        return SigningKey.generate()
    pinned = settings.evidence_fingerprints
    if needed and pinned and key.fingerprint not in pinned:
        raise PolicyError(
            "The evidence key in use is none whose records count",
            why=f"its fingerprint {key.fingerprint} is not under keys: evidence_fingerprints: in {configuration.path}",
            todo="Put the right key back. If this one is meant, add its fingerprint and leave the old ones there.",
        )
    return key


def local_paths(options: Mapping[str, object]) -> tuple[Path, ...]:
    """The places on this machine that a source's options name."""
    paths = options.get("paths", ())
    assert isinstance(paths, tuple)
    single = [str(options[name]) for name in ("path", "url") if name in options]
    return tuple(path for path in map(Path, (*paths, *single)) if path.is_absolute())


def covers(policy: Path, folder: Path) -> bool:
    """Whether a source of the policy file protects this folder, or something in it. Raises PolicyError."""
    from cto_backups.config import load

    wanted = folder.resolve()
    places = [
        place.resolve() for source in load(policy).policy.sources.values() for place in local_paths(source.options)
    ]
    return any(wanted == place or place in wanted.parents or wanted in place.parents for place in places)


def set_triggers(configuration: "Configuration", source: str, text: str) -> "Change":
    """Change a source's triggers in the policy file, comments kept, and bring the change into the catalog."""
    from cto_backups.config import edit, load

    change = edit.set_triggers(configuration.path, source, text)
    with opened(configuration.path) as after:
        after.installation.catalog.append_record(
            after.installation.signer,
            "policy",
            {
                "digest": load(configuration.path).policy.digest,
                "previous_digest": configuration.policy.digest,
                "source": source,
                "triggers_before": change.before,
                "triggers_after": change.after,
                "by": after.installation.user,
            },
            clock.now(),
        )
    return change
