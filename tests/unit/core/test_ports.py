import importlib
import pkgutil
import subprocess
import sys

from cto_backups import core
from cto_backups.core.ports import Silent


def test_progress_that_nobody_watches_takes_everything():
    progress = Silent()
    progress.total(entries=3, size_bytes=9)
    progress.advance(entries=1)
    progress.advance(size_bytes=9)


def test_what_is_pure_needs_nothing_of_what_is_not():
    names = [f"cto_backups.core.{module.name}" for module in pkgutil.iter_modules(core.__path__)]
    for name in names:
        importlib.import_module(name)
    told = f"import sys; {'; '.join(f'import {name}' for name in names)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True).stdout.split()
    ours = {name.split(".")[1] for name in loaded if name.startswith("cto_backups.")}
    assert ours <= {"core", "errors"}
