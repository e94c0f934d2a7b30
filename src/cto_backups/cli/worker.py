"""`worker`: do what is due, until stopped."""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.logs import LOGGER
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen, utc
from cto_backups.errors import BackupsError, BusyError, CatalogAwayError, ClaimLostError, ExitStatus, UsageError

if TYPE_CHECKING:
    from datetime import timedelta

    from cto_backups.config import Configuration
    from cto_backups.flows.queue_port import FleetQueue
    from cto_backups.flows.work import Performed

log = logging.getLogger(LOGGER)

AWAY_SECONDS = 10.0
"""How long a worker waits before it looks again for the server that keeps its catalog."""
AWAY_TELL_SECONDS = 600.0
"""How often it says that the server is still away."""


@command
def worker(
    screen: Screen,
    once: Annotated[bool, typer.Option("--once", help="Do what is due now, then exit with the worst status.")] = False,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="TIME", help="With --once: how often this is run; status tells when it stops."),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What status calls this worker; this host's name if left out.")
    ] = "",
    forget: Annotated[
        str, typer.Option("--forget", metavar="NAME", help="Do no work: forget a worker that was retired.")
    ] = "",
) -> ExitStatus:
    """Do what is due (backups, copies, restore tests, verifications, expiry), until stopped by a signal.

    Without --once it does several actions at once, as the policy's `worker` says, each in a process of its own; with
    it, one after the other. SIGHUP, or a change of the policy file, lets it go on under the new policy; one with
    mistakes is told, and the old one goes on. The first SIGTERM or Ctrl-C lets actions in progress finish; a second one
    breaks them off. Neither loses anything: what is still missing is due again. With --json, prints one JSON document a
    line, as things happen.
    """
    if forget:
        return _forget(screen, forget)
    interval = _interval(every, once=once)
    stop = threading.Event()
    if not once:
        _stay(screen, stop, name)
        return ExitStatus.SUCCESS
    with opened(screen, progress=False) as opening, _stopped_by_signals(screen, stop):
        from cto_backups.flows.thinning import Thinning
        from cto_backups.flows.work import run_due, tell_people_and_switch

        performed: list[Performed] = []

        def report(done: "Performed") -> None:
            performed.append(done)
            _tell(screen, done, once=once)

        for done in run_due(
            opening.installation, stop, interval=interval, name=name or f"{opening.installation.host}/once"
        ):
            report(done)
        if not stop.is_set():
            for problem in tell_people_and_switch(opening.installation, performed):
                screen.note(problem)
            Thinning(opening.installation).go_on()
        status = worst(done.error.exit_status for done in performed if done.error)
        screen.document(
            {"status": int(status), "recovered": list(opening.recovered), "actions": [_document(d) for d in performed]}
        )
        if not performed:
            screen.show("Nothing is due.")
        return status


def _stay(screen: Screen, stop: threading.Event, name: str) -> None:
    """Work until stopped, under the policy file as it is, and as it becomes."""
    from cto_backups import __version__, app
    from cto_backups.app.slots import Slots
    from cto_backups.cli.logs import arguments, configure
    from cto_backups.config import load
    from cto_backups.core.wording import counted
    from cto_backups.flows.fleet import refuse_twins
    from cto_backups.flows.work import work

    configure(screen.options)
    path = app.find_policy(screen.options.policy)
    changes, program = app.PolicyChanges(path), app.ProgramChanges()
    configuration = load(path)
    slots = Slots(configuration, arguments(screen.options))

    def refuse(error: BackupsError) -> None:
        log.warning("policy refused", extra={"fields": {"message": str(error)}})
        screen.problem(error)
        screen.note("Going on under the policy as it was before.")

    def leave() -> bool:
        if not stop.is_set() and (installed := program.seen()) is not None:
            screen.note(
                f"Release {__version__}, which this worker is of, was replaced; installed is {installed}. What is in "
                "progress is finished, then start it again; a service does so by itself."
            )
            log.warning("program replaced", extra={"fields": {"running": __version__, "installed": installed}})
            stop.set()
        return changes.seen(refuse) is not None

    away = _Away(screen)
    before: Configuration | None = None
    queue: FleetQueue | None = None
    with _stopped_by_signals(screen, stop, changes.ask), ExitStack() as kept:
        kept.callback(lambda: queue.close() if queue is not None else None)
        kept.callback(slots.close)
        while not stop.is_set():
            try:
                with ExitStack() as stack:
                    try:
                        opening = stack.enter_context(opened(screen, progress=False, configuration=configuration))
                    except CatalogAwayError:
                        raise
                    except BackupsError as error:
                        if before is None:
                            raise
                        refuse(error)
                        configuration, before = before, None
                        continue
                    away.over()
                    before = configuration
                    slots.follow(configuration)
                    if queue is None:
                        refuse_twins(opening.installation, stop)
                        queue = app.fleet_queue(configuration, screen.note)
                    else:
                        queue.follow(configuration.policy.digest)
                    changes.taken(configuration)
                    sources = counted(len(configuration.policy.sources), "source")
                    screen.show(f"Working for {sources}. Stop with Ctrl-C.")
                    work(
                        opening.installation,
                        stop,
                        lambda done: _tell(screen, done, once=False),
                        screen.note,
                        name,
                        pool=slots,
                        queue=queue,
                        leave=leave,
                    )
            except (CatalogAwayError, BusyError) as error:  # or another process holds it for too long
                if before is None:  # nobody has seen it there yet: the address may be wrong
                    raise
                away.tell(error)
                stop.wait(AWAY_SECONDS)
            if (changed := changes.seen(refuse)) is not None:
                screen.note(f"The policy has changed: going on under {path} as it is now.")
                configuration = changed
    screen.note("Stopped.")


class _Away:
    """What is told of a catalog that is away: at once, then now and then, and when it is there again."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._since: float | None = None
        self._told = ("", 0.0)

    def tell(self, error: CatalogAwayError | BusyError) -> None:
        """Say that it is away, and why, where that has not been said lately."""
        from cto_backups import clock

        at = clock.monotonic()
        code, said_at = self._told
        if self._since is not None and code == error.code and at - said_at < AWAY_TELL_SECONDS:
            return
        self._since = at if self._since is None else self._since
        self._told = error.code, at
        log.warning("catalog away", extra={"fields": {"message": str(error), "seconds": round(at - self._since)}})
        self._screen.problem(error)
        self._screen.note(f"Trying again every {AWAY_SECONDS:.0f} s. What is under way goes on.")

    def over(self) -> None:
        """Say that it is there again, where it was away."""
        from cto_backups import clock

        if self._since is None:
            return
        seconds, self._since = round(clock.monotonic() - self._since), None
        log.info("catalog back", extra={"fields": {"seconds": seconds}})
        self._screen.note(f"The catalog is there again, after {seconds} s.")


def _forget(screen: Screen, name: str) -> ExitStatus:
    from cto_backups.flows import heartbeat

    with opened(screen) as opening:
        heartbeat.forget(opening.installation, name)
    screen.document({"forgotten": name})
    screen.show(
        f"Forgot the worker '{name}': nobody misses it any more. If it still runs, its next sign brings it back."
    )
    return ExitStatus.SUCCESS


def _interval(every: str | None, *, once: bool) -> "timedelta | None":
    from cto_backups.core.duration import parse_duration

    if every is None:
        return None
    if not once:
        raise UsageError(
            "--every goes with --once", todo="Leave it out: a worker that stays gives its own signs of life."
        )
    try:
        return parse_duration(every)
    except ValueError as error:
        raise UsageError(f"--every: {error}", todo="Write how often this command is run, such as '1 h'.") from None


@contextmanager
def _stopped_by_signals(
    screen: Screen, stop: threading.Event, reload: Callable[[], None] = lambda: None
) -> Iterator[None]:
    told = threading.Event()  # not `stop`, which may be set for another reason

    def look(_number: int, _frame: FrameType | None) -> None:
        reload()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if told.is_set():
            raise KeyboardInterrupt
        told.set()
        stop.set()
        screen.note("Stopping: what is in progress is finished first. Once more breaks it off.")

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, look)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(screen: Screen, done: "Performed", *, once: bool) -> None:
    from cto_backups import clock

    if screen.options.json:
        if not once:
            screen.line(_document(done))
        return
    # Whoever looks at a terminal knows the day; whoever reads a file of many days does not.
    day = "" if sys.stdout.isatty() else "%Y-%m-%d "
    at = f"{clock.now().astimezone(screen.zone):{day}%H:%M:%S}"
    action = done.action
    what = f"{action.kind.value.replace('_', ' ')} {action.source or action.vault or ''}".rstrip()
    if done.error is None:
        screen.show(f"{at}  {what}: {done.summary}")
    elif isinstance(done.error, BusyError) and not isinstance(done.error, ClaimLostError):
        # Nothing failed: of two that planned the same, one does it.
        screen.show(f"{at}  {what}: left alone. {done.error}")
    else:
        screen.show(f"{at}  {what}: FAILED ({action.reason})")
        screen.problem(done.error)


def _document(done: "Performed") -> documents.Document:
    from cto_backups import clock

    action = done.action
    return {
        "at": utc(clock.now()),
        "action": action.kind.value,
        "source": action.source,
        "vault": action.vault,
        "point": action.point,
        "reason": action.reason,
        "due_at": utc(action.due_at),
        "passed": done.error is None,
        "summary": done.summary,
        "error": as_document(done.error) if done.error else None,
    }
