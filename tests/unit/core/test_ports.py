from cto_backups.core.ports import Silent


def test_progress_that_nobody_watches_takes_everything():
    progress = Silent()
    progress.total(entries=3, size_bytes=9)
    progress.advance(entries=1)
    progress.advance(size_bytes=9)
