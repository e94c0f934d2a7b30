"""What the audit says of the keys of vaults, of key services, and of the shares that custodians hold."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cto_backups.core.controls import CONTROLS, Audited, Environment
from cto_backups.core.escrow import Escrow, EscrowFacts, KeyDrill, ShareSet
from cto_backups.core.facts import Facts
from cto_backups.core.findings import Check
from cto_backups.core.policy import LockMode, Policy, VaultPolicy

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ASKED = Escrow(("Ada", "Grace", "Linus"), 2, timedelta(days=90))
SHARES = ShareSet(4711, 2, ("Linus", "Ada", "Grace"), NOW - timedelta(days=100), {"one": "k1", "two": "k2"})


def checks(control: str, environment: Environment, escrow: Escrow | None = ASKED) -> dict[str, tuple[bool, str]]:
    vaults = {
        name: VaultPolicy(name, f"file:{name}", "p", "r", "disk", False, LockMode.NONE) for name in ("one", "two")
    }
    policy = Policy("acme", "UTC", {}, vaults, {}, {}, (), "0" * 64, escrow=escrow)
    audited = Audited(policy, Facts({}, {}), {}, NOW, environment)
    found: list[Check] = list(next(each for each in CONTROLS if each.id == control).check(audited))
    return {check.subject: (check.passed, check.detail) for check in found}


def test_a_key_service_passes_unless_something_is_wrong_with_it() -> None:
    found = checks("key-services", Environment(key_services={"aws-kms:a": "", "gcp-kms:b": "it is disabled"}))
    assert found["aws-kms:a"][0]
    assert found["gcp-kms:b"] == (False, "it is disabled")


def own_keys(secrets: dict[str, str], **changes: object) -> dict[str, tuple[bool, str]]:
    """What is said of vaults `one`, here, `far` and `cloud`, off-site, by what opens them; `changes` are of `cloud`."""
    vaults = {
        name: VaultPolicy(name, f"file:/{name}", "p", "r", "disk", name != "one", LockMode.NONE)
        for name in ("one", "far", "cloud")
    }
    vaults["cloud"] = replace(vaults["cloud"], **changes)  # type: ignore[arg-type]
    policy = Policy("acme", "UTC", {}, vaults, {}, {}, (), "0" * 64)
    audited = Audited(policy, Facts({}, {}), {}, NOW, Environment(secrets=secrets))
    (control,) = [each for each in CONTROLS if each.id == "own-keys"]
    return {check.subject: (check.passed, check.detail) for check in control.check(audited)}


def test_an_off_site_vault_shares_its_secret_with_none() -> None:
    found = own_keys({"one": "a", "far": "a", "cloud": "b"})
    assert found == {
        "far": (False, "its secret opens one, too"),
        "cloud": (True, "its secret opens no other vault"),
    }
    assert own_keys({"one": "a", "far": "b", "cloud": "b"})["far"] == (False, "its secret opens cloud, too")
    assert own_keys({"one": "a", "far": "b"}).keys() == {"far"}, "nothing is known of the other"


def test_the_domain_of_a_host_may_share_the_key_of_the_vault_that_it_is_in() -> None:
    secrets = {"one": "a", "far": "b", "cloud": "b"}
    inside = own_keys(secrets, url="file:/far/hosts/web1", domain_of="web1")
    assert all(passed for passed, _ in inside.values())
    elsewhere = own_keys(secrets, url="file:/one/hosts/web1", domain_of="web1")
    assert elsewhere["cloud"] == (False, "its secret opens far, too")
    beside = own_keys({"far": "b", "cloud": "b"}, url="file:/farther")
    assert not beside["cloud"][0]


def test_domains_of_hosts_are_told_by_the_vault_around_them() -> None:
    vaults = {
        name: VaultPolicy(name, f"file:/far/hosts/{name}", "p", "r", "disk", True, LockMode.NONE, domain_of=name)
        for name in ("web1", "web2")
    }
    policy = Policy("acme", "UTC", {}, vaults, {}, {}, (), "0" * 64)
    audited = Audited(policy, Facts({}, {}), {}, NOW, Environment(secrets={"web1": "b", "web2": "b"}))
    (control,) = [each for each in CONTROLS if each.id == "own-keys"]
    assert [check.passed for check in control.check(audited)] == [True, True]


def test_a_key_of_its_own_counts_when_the_shared_secret_opens_the_vault_no_more() -> None:
    found = checks("own-keys-alone", Environment(separated={"one": True, "two": False}))
    assert found["one"] == (True, "the shared secret does not open it")
    assert not found["two"][0]
    assert found["two"][1].endswith("run: cto.backups key separate two")


@pytest.mark.parametrize("control", ["own-keys", "own-keys-alone", "key-services", "key-escrow", "key-drills"])
def test_nothing_is_checked_where_policy_asks_for_nothing(control: str) -> None:
    assert checks(control, Environment(escrow=EscrowFacts(SHARES)), None) == {}


def test_shares_open_every_vault() -> None:
    found = checks("key-escrow", Environment(escrow=EscrowFacts(SHARES)))
    assert [passed for passed, _ in found.values()] == [True, True, True]
    assert found["escrow"] == (True, "3 shares, 2 are enough")


@pytest.mark.parametrize(
    ("facts", "subject", "detail"),
    [
        (EscrowFacts(), "escrow", "no shares were handed out"),
        (EscrowFacts(replace(SHARES, threshold=3)), "escrow", "3 shares are enough, and policy asks for 2"),
        (EscrowFacts(replace(SHARES, custodians=("Ada", "Bob"))), "escrow", "held by Ada and Bob"),
        (EscrowFacts(replace(SHARES, keys={"one": "k1"})), "two", "do not open it"),
        (EscrowFacts(SHARES, gone=frozenset({"one"})), "one", "is gone"),
    ],
)
def test_what_shares_lack_is_found(facts: EscrowFacts, subject: str, detail: str) -> None:
    passed, told = checks("key-escrow", Environment(escrow=facts))[subject]
    assert not passed
    assert detail in told


def drilled(days: int, one: str = "", identifier: int = 4711) -> KeyDrill:
    return KeyDrill(identifier, NOW - timedelta(days=days), {"one": one})


@pytest.mark.parametrize(
    ("drills", "passed", "detail"),
    [
        ((drilled(1),), True, "shares opened it"),
        ((drilled(89),), True, "shares opened it"),
        ((drilled(91),), False, "ago; policy asks for a drill, quarterly"),
        ((drilled(1, identifier=8),), False, "never tried"),
        ((), False, "never tried"),
        ((drilled(9), drilled(1, "no password")), False, "the last drill failed: no password"),
        ((drilled(9, "no password"), drilled(1)), True, "shares opened it"),
        ((drilled(-2),), False, "shares opened it"),
    ],
)
def test_a_drill_counts_for_the_set_in_use_for_as_long_as_policy_says(
    drills: tuple[KeyDrill, ...], passed: bool, detail: str
) -> None:
    found = checks("key-drills", Environment(escrow=EscrowFacts(SHARES, drills)))
    assert found["one"][0] is passed
    assert detail in found["one"][1]
    assert found["two"][0] is False, "the drills did not try it"


def test_drills_of_shares_that_are_not_known_count_for_nothing() -> None:
    assert not checks("key-drills", Environment(escrow=EscrowFacts(None, (drilled(1),))))["one"][0]
