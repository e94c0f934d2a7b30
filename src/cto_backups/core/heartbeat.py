"""The workers' signs of life, and what their absence means; pure."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final

from cto_backups.core.calendar_times import require_aware
from cto_backups.core.duration import roughly
from cto_backups.core.facts import Facts, Heartbeat
from cto_backups.core.policy import Policy
from cto_backups.core.retries import CLOCK_TOLERANCE
from cto_backups.core.wording import counted, listed

MOST_NAMED: Final = 3
"""So many dead workers are named in a sentence; lists have them all."""


def silence(policy: Policy, facts: Facts, now: datetime) -> str | None:
    """Why workers are to be taken for dead, in a sentence; None when all are alive, none worked, or there is no work.

    Of several, the first are named, and the others counted. Raises ValueError when `now` is naive.
    """
    dead = silent(policy, facts, now)
    if not dead:
        return None
    wrong = tuple(last for last in dead if _to_come(last, now))
    overdue = tuple(last for last in dead if last not in wrong)
    told = "; ".join([*_of_overdue(overdue, facts, now), *_of_wrong(wrong, facts, now)])
    return f"{told}; nothing that is scheduled gets done" if len(overdue) == len(facts.heartbeats) else told


def _of_overdue(dead: tuple[Heartbeat, ...], facts: Facts, now: datetime) -> Iterator[str]:
    many = len(facts.heartbeats)
    if len(dead) == 1:
        yield told_of(dead[0], now, alone=many == 1)
    elif dead:
        every = "both" if many == 2 else f"all {many}"
        which = every if len(dead) == many else f"{len(dead)} of {many}"
        last = roughly(now - max(each.at for each in dead))
        yield f"{which} workers are dead: {_some(dead)}; their last sign of life was {last} ago"


def _of_wrong(wrong: tuple[Heartbeat, ...], facts: Facts, now: datetime) -> Iterator[str]:
    if len(wrong) == 1:
        yield told_of(wrong[0], now, alone=len(facts.heartbeats) == 1)
    elif wrong:
        yield (
            f"the last signs of life of {_some(wrong)} are dated in the future: a clock is or was wrong, so nobody "
            "knows whether they are running"
        )


def _some(workers: tuple[Heartbeat, ...]) -> str:
    """The first few by name and host, and how many others there are, on how many hosts."""
    named, others = workers[:MOST_NAMED], workers[MOST_NAMED:]
    told = [f"'{each.name}'{'' if _is_named_for_host(each) else f' on {each.host}'}" for each in named]
    if others:
        hosts = sorted({each.host for each in others})
        where = hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts"
        told.append(f"{counted(len(others), 'other')} on {where}")
    return listed(told)


def _is_named_for_host(sign: Heartbeat) -> bool:
    return sign.name.partition("#")[0] == sign.host


def silent(policy: Policy, facts: Facts, now: datetime) -> tuple[Heartbeat, ...]:
    """The workers that are not known to be alive. Raises ValueError when `now` is naive."""
    require_aware(now)
    if not policy.sources:
        return ()
    return tuple(last for last in facts.heartbeats if now > last.next_by or _to_come(last, now))


def told_of(last: Heartbeat, now: datetime, *, alone: bool) -> str:
    """What is wrong with a worker that is silent, in a sentence; `alone`: there is no other."""
    worker = "the worker" if alone else f"the worker '{last.name}'"
    if _to_come(last, now):
        return (
            f"the last sign of life of {worker} is dated {roughly(last.at - now)} in the future: a clock is or was "
            "wrong, so nobody knows whether it is running"
        )
    doing = f" while it was busy with '{last.busy_with}'" if last.busy_with else ""
    return (
        f"{worker} is dead: its last sign of life, from process {last.pid} on {last.host}, was "
        f"{roughly(now - last.at)} ago{doing}"
    )


def name_for(sign: Heartbeat, known: Iterable[Heartbeat], alive: Callable[[int], bool]) -> str:
    """The name under which a worker gives a sign: the one that it has, or else `sign.name`, numbered where it is taken.

    A name is free again once its worker is gone: whoever starts next under it takes the dead one's place. `alive` tells
    whether a process of this host, by its number, is a worker; of other hosts only silence tells.
    """
    by_name = {last.name: last for last in known}
    names = [sign.name if number == 1 else f"{sign.name}#{number}" for number in range(1, len(by_name) + 2)]
    for name in names:
        last = by_name.get(name)
        if last is not None and (last.host, last.pid) == (sign.host, sign.pid):
            return name
    return next(name for name in names if name not in by_name or _gone(by_name[name], sign, alive))


def _gone(last: Heartbeat, sign: Heartbeat, alive: Callable[[int], bool]) -> bool:
    overdue = sign.at > last.next_by
    if last.host != sign.host:
        return overdue
    # The number of a process that is gone may have been given to another one; a long action gives no sign meanwhile.
    return not alive(last.pid) or (overdue and not last.busy_with)


def _to_come(last: Heartbeat, now: datetime) -> bool:
    return last.at > now + CLOCK_TOLERANCE
