"""What Python loads first in processes of tests whose clock is shifted: by as many seconds as a file says just then."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from cto_backups import clock

_FILE = Path(os.environ["CTO_TEST_CLOCK"])
_real = clock.now


def _shifted() -> datetime:
    return _real() + timedelta(seconds=float(_FILE.read_text() or 0))


clock.now = _shifted
