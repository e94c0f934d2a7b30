"""How an enrolled host's logins are called, and what people do where no store can be asked."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.app.host_access import HostAccess, told_apart
from cto_backups.config.reading import parse

POLICY = """\
version: 1
business: acme
keys: {{repository: "file:keys/repository.key", evidence: "file:keys/evidence.key"}}
vaults:
  {base}: {{url: "gs://acme-backups/office", provider: google, region: eu, storage: object-storage{more}}}
{domains}
sources:
  notes: {{kind: files, class: documentation, paths: [/srv/notes], vaults: [{base}]}}
"""
DOMAIN = """\
  {base}-{host}:
    {{url: "gs://acme-backups/office/hosts/{host}", provider: google, region: eu, storage: object-storage{more},
      domain_of: {host}}}
"""


def steps(base: str, hosts: list[str], more: str = "") -> list[str]:
    """What is printed for each of these hosts."""
    domains = "".join(DOMAIN.format(base=base, host=host, more=more) for host in hosts)
    text = POLICY.format(base=base, domains=domains, more=more)
    opening: Any = SimpleNamespace(configuration=parse(Path("/srv/backups.yaml"), text.encode()))
    return ["\n".join(HostAccess(opening, host, f"{base}-{host}").let_in().here) for host in hosts]


@given(names=st.sets(st.text("ab-", min_size=1, max_size=80), min_size=2), most=st.integers(16, 64))
def test_names_that_differ_still_differ_when_they_are_cut(names: set[str], most: int) -> None:
    cut = {told_apart(name, most) for name in names}
    assert len(cut) == len(names)
    assert all(len(name) <= most for name in cut)


@pytest.mark.parametrize("base", ["cloud", "google-primary", "Google_Primary", "a-vault-with-quite-a-long-name"])
def test_each_host_has_an_account_of_its_own_that_google_takes(base: str) -> None:
    """The first letters of two hosts' accounts are often the same: one account would be let in to both domains."""
    told = steps(base, ["web1", "web2", "web1-old"])
    accounts = [re.search(r"service-accounts create (\S+)", each) for each in told]
    names = [found[1] for found in accounts if found is not None]
    assert len(set(names)) == 3
    assert all(re.fullmatch("[a-z][a-z0-9-]{4,28}[a-z0-9]", name) for name in names)
    for name, each in zip(names, told, strict=True):
        assert set(re.findall(r"[a-z0-9-]+(?=@PROJECT)", each)) == {name}


def test_a_host_that_locks_may_set_retentions_and_never_override_them() -> None:
    (plain,), (locked,) = steps("cloud", ["web1"]), steps("cloud", ["web1"], ", lock: compliance, lock_for: 30 days")
    assert "setRetention" not in plain and "roles/backupsAdd\n" in plain
    assert "storage.objects.setRetention,storage.objects.update" in locked and "roles/backupsAddLocked\n" in locked
    assert "override" not in locked


def test_a_host_removes_its_own_locks_of_the_repository_and_of_exports() -> None:
    (told,) = steps("cloud", ["web1"])
    place = "gs://acme-backups/office/hosts/web1"
    bound = re.findall(r"add-iam-policy-binding (\S+) .*roles/backupsUnlock", told)
    assert bound == [f"{place}/repositories/main/locks/", f"{place}/exports/main/locks/"]
    assert all(f"managed-folders create {folder}\n" in told for folder in bound)
