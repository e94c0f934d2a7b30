"""A repository and the exports beside it, as one store."""

from datetime import UTC, datetime

from fakes.memory import MemoryTree, MemoryVault
from payload_store_contract import store_tree

from cto_backups.core.pruning import PrunePlan
from cto_backups.exports.joined import joined
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore


def test_one_plan_of_both_is_agreed_to_before_anything_goes_and_only_more_is_asked_for_again() -> None:
    vault = MemoryVault("one")
    options = RepositoryOptions(scrypt=ScryptParameters(n=2))
    repository = RepositoryStore.create(
        vault, "repositories/main", "s", now=datetime.now(UTC), hostname="h", username="u", options=options
    )
    store = joined(repository, plain=True)

    def dropped(number: int) -> None:
        _, sealed = store_tree(store.repository, MemoryTree({b"sealed": b"%d" % number * 99}), number=number)
        _, export = store_tree(store.exports, MemoryTree({b"export": b"%d" % number * 99}), number=number)
        store.expire([sealed, export])

    dropped(1)
    alone = [part.prune(dry_run=True).plan.going for part in store.parts]
    assert all(alone) and not alone[0] & alone[1]
    shown: list[PrunePlan] = []
    files = dict(vault.files)

    def agree(plan: PrunePlan) -> None:
        assert shown or vault.files.keys() - {key for key in vault.files if "/locks/" in key} == files.keys()
        shown.append(plan)

    pruned = store.prune(agree=agree)
    assert [plan.going for plan in shown] == [alone[0] | alone[1]] == [pruned.plan.going]

    dropped(2)
    shown.clear()
    files = dict(vault.files)

    def agree_while_more_is_dropped(plan: PrunePlan) -> None:
        shown.append(plan)
        if len(shown) == 1:
            _, export = store_tree(store.exports, MemoryTree({b"export": b"more" * 99}), number=3)
            store.exports.expire([export])

    store.prune(agree=agree_while_more_is_dropped)
    assert len(shown) == 2
    assert shown[1].going - shown[0].going
