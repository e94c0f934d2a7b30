"""Which host does what: lanes of actions, and what policy may say of hosts."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.defaults import CATEGORIES
from cto_backups.core.lanes import POOL, Homes, check_hosts, home_of_source, home_of_vault, lane, reads_this_machine
from cto_backups.core.model import Action, ActionKind
from cto_backups.core.policy import Hooks, Policy, SourcePolicy, VaultPolicy
from cto_backups.core.retention import Retention

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OF_SOURCES = (ActionKind.BACKUP, ActionKind.COPY, ActionKind.RESTORE_TEST, ActionKind.EXPIRE)
OF_VAULTS = tuple(kind for kind in ActionKind if kind not in OF_SOURCES)


def vault(name, url, on_host=None):
    return VaultPolicy(name, url, "provider", "region", "disk", on_host=on_host)


VAULTS = {
    each.name: each
    for each in (
        vault("cloud", "s3://acme"),
        vault("shared", "file:/nfs", "*"),
        vault("attic", "file:/srv", "attic"),
        vault("cellar", "file:/srv", "cellar"),
        vault("unsaid", "file:/somewhere"),
    )
}


def source(kind="files", vaults=("cloud",), on_host=None, options=None, hooks=Hooks()):  # noqa: B008 - frozen
    return SourcePolicy(
        "it",
        kind,
        CATEGORIES["A"],
        (),
        Retention(permanent=True),
        None,
        vaults,
        options or {},
        hooks=hooks,
        on_host=on_host,
    )


def policy(*sources):
    return Policy("acme", "UTC", {each.name: each for each in sources}, VAULTS, {}, {}, (), "digest")


def action(kind, vault=None, name="it"):
    return Action(kind, "key", "because", NOW, name if kind in OF_SOURCES else None, vault)


@pytest.mark.parametrize(
    ("kind", "options", "here"),
    [
        ("files", {}, True),
        ("git", {"url": "https://example.com/app.git"}, True),
        ("sqlite", {}, True),
        ("command", {}, True),
        ("pgbackrest", {"host": "db.example.com"}, True),
        ("postgresql", {}, True),
        ("postgresql", {"host": "/var/run/postgresql"}, True),
        ("postgresql", {"host": "localhost"}, True),
        ("mysql", {"host": "127.0.0.1"}, True),
        ("postgresql", {"host": "db.example.com"}, False),
        ("bigquery", {}, False),
        ("bucket", {}, False),
        ("cloudsql", {}, False),
    ],
)
def test_some_kinds_read_the_machine_that_they_are_on(kind, options, here):
    assert reads_this_machine(source(kind, options=options)) is here


def test_hooks_are_programs_of_a_machine():
    assert reads_this_machine(source("bigquery", hooks=Hooks(before=("flush",))))
    assert reads_this_machine(source("bigquery", hooks=Hooks(after=("resume",))))


@pytest.mark.parametrize(
    ("given", "known", "home"),
    [
        (source(), {}, ""),
        (source(), {"it": "attic"}, "attic"),
        (source(on_host="cellar"), {"it": "attic"}, "cellar"),
        (source(on_host="*"), {"it": "attic"}, ""),
        (source("bigquery"), {"it": "attic"}, ""),
        (source("bigquery", on_host="cellar"), {}, "cellar"),
    ],
)
def test_policy_says_the_host_of_a_source_or_the_catalog_knows_it(given, known, home):
    assert home_of_source(policy(given), "it", Homes(sources=known)) == home


def test_an_enrolled_host_captures_what_lies_in_its_own_trust_domain():
    given = policy(source(vaults=("cloud",), on_host="cellar"))
    enrolled = replace(given, vaults={**VAULTS, "cloud": replace(VAULTS["cloud"], domain_of="web1")})
    assert home_of_source(enrolled, "it", Homes(sources={"it": "attic"})) == "web1"
    assert lane(enrolled, action(ActionKind.BACKUP), Homes()) == "web1"


@pytest.mark.parametrize(
    ("name", "home"),
    [("cloud", ""), ("shared", ""), ("attic", "attic"), ("unsaid", "known"), ("gone", "")],
)
def test_a_folder_is_of_a_host_and_a_bucket_of_none(name, home):
    known = Homes(vaults=dict.fromkeys([*VAULTS, "gone"], "known"))
    assert home_of_vault(policy(), name, known) == home
    assert home_of_vault(policy(), "unsaid", Homes()) == ""


@pytest.mark.parametrize(
    ("kind", "at", "given", "where"),
    [
        (ActionKind.BACKUP, None, source(on_host="cellar"), "cellar"),
        (ActionKind.BACKUP, None, source("bigquery"), POOL),
        (ActionKind.BACKUP, None, source("bigquery", ("attic", "cloud")), "attic"),
        (ActionKind.COPY, "cloud", source(vaults=("shared", "cloud")), POOL),
        (ActionKind.COPY, "cloud", source(vaults=("attic", "cloud")), "attic"),
        (ActionKind.COPY, "cellar", source(vaults=("cloud", "cellar")), "cellar"),
        (ActionKind.RESTORE_TEST, "cloud", source(vaults=("attic", "cloud"), on_host="attic"), POOL),
        (ActionKind.RESTORE_TEST, "attic", source(vaults=("attic", "cloud")), "attic"),
        (ActionKind.EXPIRE, None, source(vaults=("cloud", "attic")), "attic"),
        (ActionKind.EXPIRE, None, source(vaults=("cloud", "shared")), POOL),
    ],
)
def test_the_lane_of_what_is_done_for_a_source(kind, at, given, where):
    assert lane(policy(given), action(kind, at), Homes()) == where


@pytest.mark.parametrize("kind", OF_VAULTS)
def test_the_lane_of_what_is_done_in_a_vault(kind):
    assert [lane(policy(), action(kind, name), Homes()) for name in ("cloud", "attic", "shared")] == [
        POOL,
        "attic",
        POOL,
    ]


def test_what_policy_names_no_longer_is_the_pools():
    assert lane(policy(), action(ActionKind.BACKUP), Homes(sources={"it": "attic"})) == POOL


@given(st.sampled_from(list(ActionKind)), st.sampled_from([None, *VAULTS]), st.sampled_from([None, "*", "web1"]))
def test_without_a_fleet_and_hosts_all_is_the_pools(kind, at, on_host):
    """A worker that is alone needs no word about hosts: nothing waits for one that is not there."""
    plain = {name: replace(each, on_host=None) for name, each in VAULTS.items()}
    alone = Policy("acme", "UTC", {"it": source(on_host=on_host)}, plain, {}, {}, (), "digest")
    expected = "web1" if on_host == "web1" and kind is ActionKind.BACKUP else POOL
    assert lane(alone, action(kind, at), Homes()) == expected


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (source(vaults=()), []),
        (source(vaults=("attic",)), []),
        (source(vaults=("attic",), on_host="attic"), []),
        (source(vaults=("attic",), on_host="*"), []),
        (source(vaults=("attic",), on_host="cellar"), ["on_host"]),
        (source(vaults=("cloud", "attic"), on_host="cellar"), []),
        (source(vaults=("attic", "cellar")), ["vaults"]),
        (source(vaults=("attic", "cellar", "cloud")), []),
        (source(vaults=("attic", "cellar", "unsaid")), []),
        (source(vaults=("attic", "cloud", "shared")), []),
    ],
)
def test_hosts_between_which_nothing_travels_are_objected_to(given, fields):
    found = list(check_hosts(given, VAULTS))
    assert [each.field for each in found] == fields
    assert all(each.source == "it" and each.todo for each in found)
