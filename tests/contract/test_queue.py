import pytest
from queue_contract import QueueContract, Queues, names, offer, put

from cto_backups.queues.embedded import Embedded


class TestEmbedded(QueueContract):
    @pytest.fixture
    def queues(self) -> Queues:
        return Embedded


def test_a_worker_that_is_alone_leaves_out_what_is_of_another_hosts_lane() -> None:
    queue = Embedded(lanes=("", "here"))
    put(queue, offer("ours", "here"), offer("theirs", "there"), offer("anybody's"))
    assert names(queue) == ["ours", "anybody's"]
