"""What vaults cost: by what lies there, what travelled, and what a full restore takes; no price is assumed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.facts import Facts
from cto_backups.core.policy import Prices
from cto_backups.core.traffic import Traffic, VaultCosts, storage_cost, vault_costs

GIB = 1 << 30
PRICES = Prices("USD", storage=0.02, egress=0.09, writes=0.005, reads=0.0004)


def test_what_travels_adds_up():
    both = Traffic(1, 2, 3, 4, 5) + Traffic(10, 20, 30, 40, 50)
    assert both == Traffic(11, 22, 33, 44, 55)
    assert both.requests == 66


def test_a_vault_costs_what_lies_there_what_travels_and_what_is_asked():
    """100 GiB at 0.02; 10 GiB out at 0.09, 2,000 writes at 0.005 and 5,000 reads at 0.0004 a thousand."""
    month = {
        "copy": Traffic(writes=2000, up_bytes=90 * GIB, deletes=7),
        "verify": Traffic(reads=5000, down_bytes=10 * GIB),
    }
    costs = VaultCosts("far", 100 * GIB, month, prices=PRICES)
    assert costs.storage_cost == pytest.approx(2.0)
    assert costs.cost(month["copy"]) == pytest.approx(0.01)
    assert costs.cost(costs.total) == pytest.approx(0.01 + 0.002 + 0.9)
    unknown = replace(costs, prices=None)
    assert (unknown.storage_cost, unknown.cost(unknown.total)) == (None, None)


def test_what_lies_there_costs_by_how_long_it_does():
    assert storage_cost(100 * GIB, timedelta(days=45), PRICES) == pytest.approx(3.0)
    assert storage_cost(100 * GIB, -timedelta(days=1), PRICES) == 0


def test_a_full_restore_reads_no_more_than_there_is_in_requests_as_were_seen(build):
    known = build.healthy(newest=build.point(size_bytes=10 * GIB))
    policy = build.policy(vaults=(build.vault("near"), build.vault("far", prices=PRICES)))
    month = {"far": {"verify": Traffic(reads=100, down_bytes=GIB)}}
    near, far = vault_costs(policy, build.facts(known), {"near": 4 * GIB, "far": 30 * GIB}, month)
    assert near.restore == Traffic(down_bytes=4 * GIB), "it is compressed there, and nothing was read yet"
    assert far.restore == Traffic(reads=1000, down_bytes=10 * GIB)
    assert far.cost(far.restore) == pytest.approx(0.9 + 0.0004)
    (empty, _) = vault_costs(policy, Facts(), {}, {})
    assert (empty.stored_bytes, empty.restore, empty.total) == (0, Traffic(), Traffic())
    assert vault_costs(policy, build.facts(build.healthy(newest=None)), {"near": 9}, {})[0].restore == Traffic()
