"""Names of enrolled hosts, and what an enrolled host and whoever enrolled it plan."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cto_backups.core.defaults import CATEGORIES
from cto_backups.core.enrolment import Host, domain_url, domain_vault, is_host_name, source_of
from cto_backups.core.facts import Facts
from cto_backups.core.model import ActionKind
from cto_backups.core.plan import due
from cto_backups.core.policy import Policy, SourcePolicy, VaultPolicy
from cto_backups.core.retention import Retention
from cto_backups.core.schedule import parse_triggers

NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("web1", True), ("Web-1.example.com", True), ("", False), ("-a", False), ("a/b", False), ("a b", False)],
)
def test_a_host_is_called_as_systems_are(name: str, is_one: bool) -> None:
    assert is_host_name(name) is is_one


def test_what_belongs_to_a_host_is_called_after_it() -> None:
    assert domain_vault("cloud", "Web1.example") == "cloud-web1-example"
    assert domain_url("s3://acme/office/", "web1") == "s3://acme/office/hosts/web1"
    assert source_of("Web1.example") == "web1-example-files"


def test_a_host_stands_where_it_was_brought_last() -> None:
    host = Host("web1", "role", NOW)
    assert host.standing == "enrolled"
    assert replace(host, joined_at=NOW).standing == "joined"
    assert replace(host, joined_at=NOW, revoked_at=NOW).standing == "revoked"


def policy(**changes: object) -> Policy:
    vaults = {
        "near": VaultPolicy("near", "file:/near", provider="p", region="r", storage="disk"),
        "near-web1": VaultPolicy("near-web1", "file:/near/hosts/web1", "p", "r", "disk", domain_of="web1"),
    }
    sources = {
        name: SourcePolicy(
            name=name,
            kind="files",
            category=CATEGORIES["B"],
            triggers=parse_triggers("hourly"),
            retention=Retention(keep_for=timedelta(days=90)),
            test_every=None,
            vaults=given,
        )
        for name, given in (("office", ("near",)), ("web1-files", ("near-web1",)), ("nowhere", ()))
    }
    return replace(Policy("acme", "UTC", sources, vaults, CATEGORIES, {}, (), "digest"), **changes)


def test_what_lies_in_a_hosts_domain_is_captured_by_that_host_alone() -> None:
    assert policy().enrolled_host("web1-files") == "web1"
    assert policy().enrolled_host("office") is None
    assert policy().enrolled_host("nowhere") is None
    assert policy().enrolled_host("unknown") is None
    assert policy().own_sources == ("office", "nowhere")
    planned = due(policy(), Facts(), NOW, ["office", "web1-files"])
    assert [(action.kind, action.source) for action in planned] == [(ActionKind.BACKUP, "office")]
