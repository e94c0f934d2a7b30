"""The hosts of a fleet, as signs of life and lanes tell of them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.facts import Facts, Heartbeat
from cto_backups.core.hosts import hosts, shared
from cto_backups.core.lanes import Homes

MINUTE = timedelta(minutes=1)


@pytest.fixture
def policy(build):
    made = build.policy()
    (name,) = made.sources
    files = replace(made.sources[name], kind="files")
    return replace(made, sources={name: files, "query": replace(files, name="query", kind="bigquery")})


def sign(build, host, *, name="", ago=0.0, policy=""):
    at = build.now - ago * MINUTE
    return Heartbeat(at, at + 2 * MINUTE, host, 1, "", name or host, "1.0", 1, 2, policy)


def test_without_a_worker_and_a_lane_there_is_no_host(build):
    policy = replace(build.policy(), sources={}, vaults={})
    assert hosts(policy, Facts(), Homes(), build.now) == ()


def test_a_host_is_told_with_its_lane_and_its_last_sign(build, policy):
    (name, other), homes = policy.sources, Homes(sources={"ledger": "web1", "query": "web1"})
    facts = Facts(heartbeats=(sign(build, "web1", ago=1), sign(build, "web1", name="web1#2", ago=0.5)))
    (found,) = hosts(policy, facts, replace(homes, sources={name: "web1", other: "web1"}), build.now)
    assert (found.name, found.gone, found.sources, found.vaults) == ("web1", False, 1, 0)
    assert found.seen == build.now - MINUTE / 2
    assert len(found.workers) == 2


def test_a_host_is_gone_when_none_of_its_workers_lives(build, policy):
    heartbeats = (
        sign(build, "half", ago=9),
        sign(build, "half", name="half#2"),
        sign(build, "dead", ago=9),
    )
    gone = {host.name: host.gone for host in hosts(policy, Facts(heartbeats=heartbeats), Homes(), build.now)}
    assert gone == {"half": False, "dead": True}


def test_a_lane_for_which_no_worker_ever_was_is_told(build, policy):
    (name, _) = policy.sources
    (found,) = hosts(policy, Facts(), Homes(sources={name: "web9"}), build.now)
    assert (found.name, found.gone, found.seen) == ("web9", True, None)


@pytest.mark.parametrize(("under", "other"), [("", False), ("of this file", False), ("of another", True)])
def test_a_worker_under_another_policy_is_told_apart(build, policy, under, other):
    policy = replace(policy, digest="of this file")
    (found,) = hosts(policy, Facts(heartbeats=(sign(build, "web1", policy=under),)), Homes(), build.now)
    assert found.other_policy is other


def test_an_enrolled_host_has_a_policy_of_its_own_by_right(build, policy):
    domains = {"d": replace(next(iter(policy.vaults.values())), name="d", domain_of="web1")}
    policy = replace(policy, digest="of this file", vaults={**policy.vaults, **domains})
    heartbeats = tuple(sign(build, host, policy="of another") for host in ("web1", "web2"))
    told = {host.name: host.other_policy for host in hosts(policy, Facts(heartbeats=heartbeats), Homes(), build.now)}
    assert (told["web1"], told["web2"]) == (False, True)


def test_what_is_of_no_host_alone_is_counted(build, policy):
    (name, _) = policy.sources
    known = Homes(sources={name: "web1"}, vaults=dict.fromkeys(policy.vaults, "web1"))
    assert shared(policy, Homes()) == (2, len(policy.vaults))
    assert shared(policy, known)[0] == 1
