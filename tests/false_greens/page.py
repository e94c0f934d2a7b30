"""`docs/explanation/false-greens.md`, made from the table of faults and the healthy corpus."""

from false_greens.faults import FAULTS
from false_greens.healthy import CORPUS

PLACE = "docs/explanation/false-greens.md"

_HEAD = """# False greens: faults that must not look healthy

<!-- made from tests/false_greens; `tools/false-greens` writes it anew -->

The worst thing that a backup system can say is that all is well when it is not. So each fault below is put into a real
installation, which was healthy for days, and what is named beside it must then be seen. The healthy installation shows
none of it. Each row is a test of that name, in `tests/false_greens`.

Vaults, catalog, keys, data and commands are real, in folders of a test. Told are the time, so that weeks pass in
seconds; which disk a folder is on, since a test has one disk; and, in {told} rows, what the system answers: no room
left, or a folder that cannot be removed.
"""

_TOLD = ("Vault without room", "Copies that stay away", "Test that did not clean up")

_HEALTHY = """
## False alarms

A check that cries wolf is switched off. So installations of different shapes live for days with the same commands. On
each of their days, `status` must be green and `audit --look` must have no finding of severity high or critical. It has
none.

| Installation | What it is | Days | Looked at |
|---|---|---|---|
"""

_MISSED = """
## What is not caught

The tests see to it that these still look healthy: one that is caught from now on moves to the table above.

| Fault | What is done | Why it is not caught |
|---|---|---|
"""


def rendered() -> str:
    """The whole page, in Markdown."""
    caught = [fault for fault in FAULTS if not fault.missed]
    lines = [_HEAD.format(told=len(_TOLD)), f"## {len(caught)} faults, and what catches each", ""]
    lines += ["| Fault | What is done | What catches it |", "|---|---|---|"]
    lines += [
        f"| {fault.name} | {fault.done} | {'; '.join(check.told for check in fault.checks)} |" for fault in caught
    ]
    text = "\n".join([*lines, ""]) + _MISSED
    text += "".join(f"| {fault.name} | {fault.done} | {fault.missed} |\n" for fault in FAULTS if fault.missed)
    text += _HEALTHY
    text += "".join(f"| {shape.name} | {shape.told} | {shape.days} | {shape.looks} times |\n" for shape in CORPUS)
    days, looks = sum(shape.days for shape in CORPUS), sum(shape.looks for shape in CORPUS)
    return f"{text}\nTogether {days} days, looked at {looks} times, with no alarm.\n"
