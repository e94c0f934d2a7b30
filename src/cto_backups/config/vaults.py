"""From the validated settings of vaults to `core.policy`; what does not fit together is objected to."""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from ipaddress import ip_address
from urllib.parse import urlsplit

from cto_backups.config.bandwidth import bandwidth_limits, bandwidth_objections
from cto_backups.config.kinds import OBJECT_STORES
from cto_backups.config.secrets import SecretReference
from cto_backups.config.vault_models import Vault
from cto_backups.core.object_locks import parse_window
from cto_backups.core.policy import Access, LegalHolds, LockMode, Prices, Tls, VaultPolicy, VaultSettings
from cto_backups.core.schedule import parse_triggers
from cto_backups.core.verification import parse_share
from cto_backups.core.watching import watching_trigger

Place = tuple[str | int, ...]

LOGINS = {"s3": ("access_key", "secret_key"), "gs": ("credentials",)}
"""The settings by which one logs in at each kind of object store."""

_STORE_SETTINGS = ("endpoint", *(setting for settings in LOGINS.values() for setting in settings))


def built_vaults(
    given: Mapping[str, Vault], absolute: Callable[[str, Place], str], refuse: Callable[[Place, str, str], None]
) -> dict[str, VaultPolicy]:
    """The vaults, with absolute URLs; `absolute` makes that of a folder so, or objects to it at its place.

    `refuse` notes a place, what is wrong there, and what to do about it.
    """
    built: dict[str, VaultPolicy] = {}
    taken: dict[tuple[str, str | None], str] = {}
    for name, vault in given.items():
        scheme = vault.url.partition(":")[0]
        stored = scheme in OBJECT_STORES
        url = vault.url.rstrip("/") if stored else absolute(vault.url, ("vaults", name, "url"))
        endpoint = vault.endpoint.rstrip("/") if vault.endpoint else None
        first = taken.setdefault((url, endpoint), name)
        if first != name:
            refuse(
                ("vaults", name, "url"),
                f"vault {name} is the same place as vault {first}",
                "Two copies in one place are lost together: give each vault a place of its own.",
            )
        for number, message, todo in bandwidth_objections(name, vault.bandwidth):
            refuse(("vaults", name, "bandwidth", number), message, todo)
        for setting, message, todo in _objections(name, vault, scheme):
            refuse(("vaults", name, setting), message, todo)
        logins = {setting: getattr(vault, setting) for setting in LOGINS.get(scheme, ())}
        built[name] = VaultPolicy(
            name=name,
            url=url,
            provider=vault.provider,
            region=vault.region,
            storage=vault.storage,
            off_site=vault.off_site,
            lock_mode=LockMode(vault.lock),
            lock_window=parse_window(vault.lock_for),
            legal_holds=LegalHolds(vault.legal_holds),
            repository=vault.repository,
            read_part=parse_share(vault.read_part) if vault.read_part else Fraction(1),
            access=Access(vault.access),
            endpoint=endpoint,
            tls=Tls(vault.tls) if stored else None,
            logins={setting: SecretReference.parse(written) for setting, written in logins.items() if written},
            plain_exports=vault.exports == "plain",
            kms_key=vault.kms_key,
            domain_of=vault.domain_of,
            bandwidth=bandwidth_limits(vault.bandwidth),
            prices=Prices(**vault.prices.model_dump()) if vault.prices else None,
            copies=parse_triggers(", ".join(vault.copies)) if vault.copies else (),
            checks=parse_triggers(", ".join(vault.checks)) if vault.checks else (),
            on_host=vault.on_host,
            settings=VaultSettings(**vault.settings.model_dump()) if vault.settings else VaultSettings(),
        )
    return built


def _objections(name: str, vault: Vault, scheme: str) -> Iterator[tuple[str, str, str]]:
    """What does not fit together in one vault: at which setting, what, and what to do."""
    if vault.copies and watching_trigger(parse_triggers(", ".join(vault.copies))):
        yield (
            "copies",
            f"vault {name} is to get copies when something changes: that is what it does without a schedule",
            "Leave copies out; or write times and intervals alone, such as 'daily at 03:00'.",
        )
    if vault.checks and watching_trigger(parse_triggers(", ".join(vault.checks))):
        yield (
            "checks",
            f"vault {name} is to be tried out when something changes: of its rules and roles nothing tells of that",
            "Write times and intervals alone, such as 'every 7 d'.",
        )
    yield from _locked(name, vault, scheme)
    for setting in _STORE_SETTINGS:
        if getattr(vault, setting) is not None and setting not in ("endpoint", *LOGINS.get(scheme, ())):
            fitting = next((kind for kind, settings in LOGINS.items() if setting in settings), "")
            yield setting, f"vault {name} is no {fitting}:// vault, and has {setting}", f"Leave {setting} out."
    if scheme in OBJECT_STORES and vault.on_host is not None:
        yield "on_host", f"vault {name} is in a bucket, which every host reaches, and has on_host", "Leave on_host out."
    if scheme not in OBJECT_STORES:
        if vault.endpoint is not None:
            yield "endpoint", f"vault {name} is a folder, and has no server", "Leave endpoint out."
        if vault.settings is not None:
            yield "settings", f"vault {name} is a folder, and has no bucket to be set", "Leave settings out."
        if vault.kms_key is not None:
            yield "kms_key", f"vault {name} is a folder: no provider encrypts it", "Leave kms_key out."
        if vault.tls != "1.3":
            yield "tls", f"vault {name} is a folder: nothing travels to it", "Leave tls out."
        return
    yield from _kept_whole(name, vault, scheme)
    yield from half_a_login(f"vault {name}", vault.access_key, vault.secret_key)
    yield from on_the_way(f"vault {name}", vault.endpoint, vault.tls)


def _locked(name: str, vault: Vault, scheme: str) -> Iterator[tuple[str, str, str]]:
    """What does not fit of its lock, and of holds."""
    if vault.lock != "none" and scheme not in OBJECT_STORES:
        yield (
            "lock",
            f"vault {name} cannot lock what it stores: it is a folder",
            "Leave lock out, or write none. So that this host cannot delete there, see 'access: append-only'.",
        )
    elif vault.lock == "none" and "lock_for" in vault.model_fields_set:
        yield (
            "lock_for",
            f"vault {name} has lock_for, and locks nothing",
            "Write 'lock: governance' or 'lock: compliance', or leave lock_for out.",
        )
    if vault.legal_holds == "stored" and vault.lock == "none":
        yield (
            "legal_holds",
            f"vault {name} is to put legal holds on what it stores, and locks nothing",
            "Write 'lock: governance' or 'lock: compliance', where its bucket can lock; or leave legal_holds out.",
        )
    elif vault.legal_holds == "stored" and vault.access == "append-only":
        yield (
            "legal_holds",
            f"vault {name} is append-only, and is to put legal holds on what it stores: who may do so takes them off",
            "Write it where the vault is owned; and leave legal_holds out here.",
        )


def _kept_whole(name: str, vault: Vault, scheme: str) -> Iterator[tuple[str, str, str]]:
    """The objection to a retention of the whole bucket where the repository in it could not work with that."""
    if vault.settings is None or not vault.settings.retention_days:
        return
    if scheme == "gs":
        yield (
            "settings",
            f"vault {name} is to have a bucket that keeps everything: its repository has to delete files there, too",
            "Leave retention_days out; with 'lock', each file is kept that is to be kept, and as long as it is needed.",
        )
    elif vault.lock == "none":
        yield (
            "settings",
            f"vault {name} has retention_days, and no lock: the mode of its lock is that of the bucket's retention",
            "Write 'lock: governance' or 'lock: compliance', or leave retention_days out.",
        )


def half_a_login(whose: str, access_key: str | None, secret_key: str | None) -> Iterator[tuple[str, str, str]]:
    """The objection to one key without the other: at which setting, what, and what to do."""
    for one, other, lacking in (
        ("access_key", "secret_key", access_key is not None and secret_key is None),
        ("secret_key", "access_key", secret_key is not None and access_key is None),
    ):
        if lacking:
            yield one, f"{whose} has {one} without {other}", "Name both, or neither."


def on_the_way(whose: str, endpoint: str | None, tls: str, setting: str = "endpoint") -> Iterator[tuple[str, str, str]]:
    """Objections to how a service is reached; `whose` is "vault NAME" or "source NAME", `setting` has its address."""
    address = urlsplit(endpoint or "https://provider.example")
    plain = address.scheme == "http"
    if address.path.strip("/") or address.query or address.fragment:
        yield setting, f"the {setting} of {whose} is more than a server", "End it after the host and port."
    if tls == "none" and not (plain and _is_here(address.hostname or "")):
        yield (
            "tls",
            f"{whose} may do without TLS only where its {setting} is a server of this machine",
            "Leave tls out; or name a server such as http://127.0.0.1:9000.",
        )
    elif plain and tls != "none":
        yield (
            setting,
            f"the {setting} of {whose} does without TLS",
            "Write https://. For a server of this very machine: tls: none.",
        )


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
