"""`retention` and `retention simulate` as people type them."""

import re

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home


def test_a_simulation_shows_ages_bars_bytes_and_cost_and_changes_nothing(home: Home) -> None:
    """In at most 80 columns, and the same figures in JSON."""
    home.change("more figures\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    command = ("retention", "simulate", "data-files", "--days", "90", "--price", "1000000")
    before = home("points", "data-files", "--json").document
    document = home(*command, "--json").document
    (answer,) = document["sources"]
    assert (document["days"], answer["source"], len(answer["course"])) == (90, "data-files", 90)
    assert sum(answer["by_age"].values()) == len(answer["kept"]) == answer["course"][-1]["points"]
    stored = answer["course"][-1]["stored_bytes"]
    assert abs(answer["cost_per_month"] - stored * answer["vaults"] / 1000) < 0.01

    out = home(*command).out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    bars = [line for line in lines if "##" in line]
    assert len(bars) == 16
    assert bars[-1].split()[1] == str(answer["course"][-1]["points"])
    assert f"{answer['cost_per_month']:,.2f} a month then" in out
    assert home("points", "data-files", "--json").document == before


def test_the_prices_of_vaults_say_what_it_will_cost(home: Home) -> None:
    """In each currency by itself; where some state no price, that is told."""
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    home.change("more figures\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    command = ("retention", "simulate", "data-files", "--days", "30")
    assert home(*command, "--json").document["sources"][0]["costs"] == []
    assert "prices" not in home(*command).out

    text = home.policy.read_text()
    named = re.search(r"(?m)^ +(?=url: file:vaults/one\b)", text) or re.search(r"(?m)^ +(?=url: )", text)
    assert named is not None
    price = f"{named[0]}prices: {{currency: EUR, storage: 524288}}\n"
    home.policy.write_text(text[: named.start()] + price + text[named.start() :])
    (answer,) = home(*command, "--json").document["sources"]
    (cost,) = answer["costs"]
    stored = [day["stored_bytes"] for day in answer["course"]]
    assert (cost["currency"], cost["vaults"], answer["cost"]) == ("EUR", 1, None)
    assert abs(cost["per_month"] - stored[-1] / 2048) < 0.01
    assert abs(cost["total"] - sum(stored) / 2048 / (365.25 / 12)) < cost["total"] * 0.02
    out = home(*command).out
    assert "Storage in 1 vault at the policy's prices, in EUR:" in out
    assert f"{cost['per_month']:,.2f} a month then" in out
    assert f"Of {answer['vaults'] - 1} vaults the policy states no prices." in out


def test_every_source_is_simulated_and_listed_when_none_is_named(home: Home) -> None:
    """And one that is not there is told."""
    names = {answer["source"] for answer in home("retention", "simulate", "--json").document["sources"]}
    listed = {answer["source"] for answer in home("retention", "--json").document["sources"]}
    assert names == listed == {"data-files", "app-repository", "ledger-database"}
    assert "data-files: " in home("retention").out
    assert home("retention", "simulate", "data-file").status is ExitStatus.NOT_FOUND
    assert home("retention", "simulate", "--days", "0").status is ExitStatus.USAGE
