"""How many threads work for a vault that is near, and for one that each request has a way to."""

from cto_backups.repository.options import RepositoryOptions


def test_more_is_under_way_to_a_vault_that_is_far_however_few_cores_there_are() -> None:
    near, far = RepositoryOptions(workers=2), RepositoryOptions(workers=2, far=True)
    assert (near.readers, near.uploaders) == (2, 2)
    assert (far.readers, far.uploaders) == (8, 4)
    assert RepositoryOptions(workers=32, far=True).readers == 32
