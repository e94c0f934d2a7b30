"""The address of a catalog on a server: what is taken from it, what people see of it, and how the server is trusted."""

import pytest

from cto_backups.catalog.database import is_on_server, place_of
from cto_backups.catalog.postgresql.address import Address
from cto_backups.errors import CatalogError


@pytest.fixture(autouse=True)
def no_settings_of_this_user(monkeypatch):
    for name in ("PGHOST", "PGSSLMODE", "PGSSLROOTCERT", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://db.example.com/backups", "verify-full"),
        ("postgresql://db1.example.com,db2.example.com/backups", "verify-full"),
        ("postgresql://localhost,db2.example.com/backups", "verify-full"),
        ("postgresql://10.0.0.7/backups", "verify-full"),
        ("postgresql://db.example.com/backups?sslmode=require", "require"),
        ("postgresql://localhost/backups", None),
        ("postgresql:///backups?host=/var/run/postgresql", None),
        ("postgresql://?service=backups", None),
    ],
)
def test_whoever_is_not_this_machine_has_to_prove_who_it_is(url, mode):
    assert Address.of(url)._tls().get("sslmode") == mode


def test_an_authority_that_is_named_stands_in_place_of_the_systems(monkeypatch):
    named = Address.of("postgresql://db.example.com/backups?sslrootcert=/etc/ours.pem")
    assert {**named._tls(), **named.given}["sslrootcert"] == "/etc/ours.pem"
    monkeypatch.setenv("PGSSLROOTCERT", "/etc/theirs.pem")
    assert "sslrootcert" not in Address.of("postgresql://db.example.com/backups")._tls()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://backups@db.example.com:6432/shop", "postgresql://db.example.com:6432/shop"),
        ("postgresql://a:1,b:2/shop?target_session_attrs=read-write", "postgresql://a:1,b:2/shop"),
        ("postgresql:///shop?host=/run/pg&schema=second", "postgresql:///run/pg/shop?schema=second"),
        ("postgresql://?service=backups", "postgresql://service=backups"),
    ],
)
def test_people_see_where_it_is_and_not_who_logs_in(url, place):
    assert place_of(url) == place
    assert is_on_server(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://backups:hunter2@db.example.com/shop",
        "postgresql://db.example.com/shop?password=hunter2",
        "postgresql://db.example.com/shop?hunter2=1",
        "postgresql://[hunter2/shop",
        "postgresql://db.example.com/shop?schema=pg_hunter2",
        "postgresql://db.example.com/shop?schema=",
    ],
)
def test_an_address_that_cannot_be_one_or_has_a_secret_in_it_is_refused_and_not_repeated(url):
    with pytest.raises(CatalogError) as caught:
        Address.of(url)
    assert "hunter2" not in f"{caught.value} {caught.value.todo} {caught.value.__cause__!r}"


def test_one_beside_is_in_the_same_database():
    address = Address.of("postgresql://backups@db1,db2:6432/shop%20one?options=-c%20work_mem%3D8MB")
    beside = Address.of(address.beside("new one"))
    assert (beside.given, beside.schema) == (address.given, "new one")
