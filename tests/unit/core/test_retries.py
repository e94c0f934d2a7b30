from dataclasses import replace

import pytest

from cto_backups.core.facts import VaultFacts
from cto_backups.core.model import Action, ActionKind, Outcome
from cto_backups.core.retries import broke_off

OF_VAULTS = {
    ActionKind.VERIFY: "last_run",
    ActionKind.PRUNE: "prune_run",
    ActionKind.RENEW: "renew_run",
    ActionKind.CHECK: "check_run",
}


def action(build, kind, **of):
    return Action(kind, f"{kind}-{of}", "it is due", build.now, **of)


@pytest.mark.parametrize("outcome", Outcome)
def test_what_ended_with_its_process_at_a_source_broke_off(build, outcome):
    run = build.run(ActionKind.BACKUP, build.ago(minutes=5), outcome)
    facts = build.facts(replace(build.healthy(), last_runs=build.runs(run)))
    assert broke_off(action(build, ActionKind.BACKUP, source="ledger"), facts) == (outcome is Outcome.INTERRUPTED)
    assert not broke_off(action(build, ActionKind.RESTORE_TEST, source="ledger"), facts), "another kind of action"
    assert not broke_off(action(build, ActionKind.BACKUP, source="never seen"), facts)


@pytest.mark.parametrize("kind", OF_VAULTS)
def test_what_ended_with_its_process_at_a_vault_broke_off(build, kind):
    run = build.run(kind, build.ago(minutes=5), Outcome.INTERRUPTED)
    facts = build.facts(vaults={"near": VaultFacts("near", **{OF_VAULTS[kind]: run})})
    others = [each for each in OF_VAULTS if each is not kind]
    assert broke_off(action(build, kind, vault="near"), facts)
    assert not any(broke_off(action(build, each, vault="near"), facts) for each in others)
    assert not broke_off(action(build, kind, vault="far"), facts)
