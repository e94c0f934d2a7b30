"""``make fuzz``: each reader in turn under atheris, guided by the coverage of its Python, for so many seconds.

``python -m fuzz SECONDS CORPUS [READER …]``; what it finds is stored beside the corpus, and printed.
"""

import subprocess
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cto_backups", "fuzz"]):
    from fuzz.readers import READERS


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Fuzz one reader, in this process, which ends with it."""

    def once(content: bytes) -> None:
        choices = atheris.FuzzedDataProvider(content)
        READERS[name].fails_as_ours(READERS[name].content(lambda count: choices.ConsumeIntInRange(0, count - 1)))

    folder = corpus / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        "-timeout=20",
        "-rss_limit_mb=1500",
        "-max_len=2048",
        "-len_control=0",
        f"-artifact_prefix={folder}-",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder)], once)
    atheris.Fuzz()


def main() -> None:
    """All that are asked for, each in a process of its own; the exit status says whether something was found."""
    seconds, corpus, *names = sys.argv[1:]
    if len(names) == 1:
        fuzz(names[0], int(seconds), Path(corpus))
        return
    names = names or list(READERS)
    share = str(max(1, int(seconds) // len(names)))
    failed = []
    for name in names:
        done = subprocess.run([sys.executable, "-m", "fuzz", share, corpus, name], check=False)
        failed += [name] * bool(done.returncode)
    print("found something in:" if failed else "nothing found in:", ", ".join(failed or names))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
