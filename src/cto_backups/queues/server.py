"""The queue of a fleet: Procrastinate's, on the PostgreSQL server that keeps the catalog, in a schema of its own.

Procrastinate keeps the jobs, tells who waits for them, and knows which workers live. Which job a worker takes is for
its dispatch to say, so each is taken by its number, where it still waits. The server's clock decides who lives.
"""

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from procrastinate.jobs import Job

from cto_backups import clock
from cto_backups.catalog.database import Password
from cto_backups.catalog.postgresql.address import Address
from cto_backups.catalog.postgresql.mishaps import is_lost, translated
from cto_backups.core.model import Action
from cto_backups.errors import CatalogAwayError
from cto_backups.flows.queue_port import Offer
from cto_backups.queues import jobs, session, statements
from cto_backups.queues.session import Session, at_once

log = logging.getLogger("cto_backups")

BEAT_SECONDS: Final = 15.0
GONE_SECONDS: Final = 60.0
"""After how long without a sign of life a worker's jobs wait again."""
PATIENCE_SECONDS: Final = 20.0
"""For how long a server may be away in the middle of something: it restarts in less."""
_LOOK_SECONDS: Final = 5.0  # where the server tells nothing, such as behind a pooler of connections
_WINDOW: Final = 500
_OF_EACH: Final = 100  # of one kind and priority at one vault
_BATCH: Final = 1000
_FORGET_HOURS: Final = 1
_FORGET_WORKERS: Final = 3600.0
_TIDY_SECONDS: Final = 600.0

_Given = TypeVar("_Given")


class ServerQueue:
    """The queue on a server, for the thread of one worker, with the lanes of which it takes.

    `policy` is the digest of the policy under which it works: what was planned under another one is left to those who
    have that. `warn` is told, once each, what this worker does not understand.
    """

    def __init__(
        self,
        url: str,
        password: Password | None,
        *,
        lanes: Collection[str],
        policy: str,
        warn: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self._catalog = Address.of(url, password)  # what people call it
        self._address = session.address_of(self._catalog)
        self._lanes = tuple(lanes)
        self._policy = policy
        self._queues = [jobs.queue_name(lane) for lane in lanes]
        self._warn = warn
        self._refused: set[str] = set()
        self._session: Session | None = None
        self._since = 0.0
        self._worker = 0
        self._seen: tuple[Action, ...] = ()
        self._taken: dict[str, int] = {}
        self._unsaid: dict[str, int] = {}
        self._look_at = self._tidy_at = 0.0
        self._many = False
        with translated(self._catalog):
            session.make(self._address)
        self._do(lambda opened: None)
        self._stop = threading.Event()
        self._beating = threading.Thread(target=self._keep_beating, name="queue-beat", daemon=True)
        self._beating.start()

    def follow(self, policy: str) -> None:
        """From now on take what was planned under another policy; what is taken stays taken."""
        if policy != self._policy:
            self._policy = policy
            self._seen, self._look_at = (), 0.0

    def mark(self) -> int:
        """The number of the last thing that happened in the queue."""

        def last(opened: Session) -> int:
            return int(opened.rows("SELECT coalesce(max(id), 0) AS last FROM procrastinate_events")[0]["last"])

        return self._do(last)

    def put(self, offers: Sequence[Offer], mark: int, *, of: Collection[str] | None) -> None:
        """Let actions wait that do not yet; one worker puts at a time, so that none comes twice."""
        fresh = {offer.action.key: offer for offer in offers}

        def write(opened: Session) -> None:
            with opened.connection.transaction():
                opened.lock()
                keys = list(fresh)
                known = {row["key"] for row in opened.rows(statements.KNOWN, keys=keys, mark=mark)}
                made = [self._job(fresh[key]) for key in keys if key not in known]
                for start in range(0, len(made), _BATCH):
                    at_once(opened.manager.batch_defer_jobs_async(made[start : start + _BATCH]))
                places = None if of is None else list(of)
                asked = {"keys": keys, "places": places, "policy": self._policy, "worker": self._worker}
                opened.rows(statements.WITHDRAW, seconds=GONE_SECONDS, **asked)
            if clock.monotonic() >= self._tidy_at:
                self._tidy_at = clock.monotonic() + _TIDY_SECONDS
                _tidy(opened)

        self._do(write)
        self._look_at = 0.0

    def waiting(self) -> tuple[Action, ...]:
        """What waits; the server is asked again when it has told of something, and now and then.

        Of more than 500, the first 100 of each kind and priority at each vault.
        """
        at = clock.monotonic()
        told = self._told()
        # Of very many, which take the server a while to look through, enough are in sight already.
        if at >= self._look_at or (told and not self._many):
            self._seen = self._do(self._look)
            self._look_at = at + _LOOK_SECONDS
        return self._seen

    def take(self, action: Action) -> bool:
        """Have an action for oneself, where it still waits."""
        if action.key in self._taken:
            return False
        found = self._do(lambda opened: opened.rows(statements.TAKE, key=action.key, worker=self._worker))
        self._seen = tuple(each for each in self._seen if each.key != action.key)
        if found:
            self._taken[action.key] = found[0]["id"]
        return bool(found)

    def end(self, action: Action) -> None:
        """Note that an action has ended; said again later where the server is away now."""
        number = self._taken.pop(action.key, None)
        if number is not None:
            self._unsaid[action.key] = number
            with suppress(CatalogAwayError):  # the action has ended all the same
                self._do(self._say)

    def beat(self) -> tuple[Action, ...]:
        """Have those jobs wait again whose workers are gone, and say what is in the queue that nobody here can do."""

        def look(opened: Session) -> tuple[Action, ...]:
            self._say(opened)
            # What was taken for us without our knowing, since the server went away before it could say so.
            opened.rows(statements.BACK, worker=self._worker, but=list(self._taken.values()))
            for row in opened.rows(statements.OTHERS, **self._asked()):
                self._refuse(row)
            # Whoever was cut off as long as this worker was needs the time to say so.
            if clock.monotonic() - self._since < GONE_SECONDS:
                return ()
            revived = opened.rows(statements.REVIVE, seconds=GONE_SECONDS)
            at_once(opened.manager.prune_stalled_workers(_FORGET_WORKERS))
            return tuple(action for row in revived if (action := self._read(row["args"])) is not None)

        revived = self._do(look)
        if revived:
            self._look_at = 0.0
        return revived

    def close(self) -> None:
        """Let go of the server; what was taken waits again at once."""
        self._stop.set()
        self._beating.join()
        try:
            opened = self._session
            if opened is not None:
                self._say(opened)
                opened.rows(statements.BACK, worker=self._worker, but=[])
                at_once(opened.manager.unregister_worker(self._worker))
        except psycopg.Error as error:
            log.warning("queue not left", extra={"fields": {"message": type(error).__name__}})
        finally:
            self._drop()

    # -- with the server -----------------------------------------------------------------------------------------------

    def _do(self, step: Callable[[Session], _Given]) -> _Given:
        """Carry a step out, again on another session where one was lost: each step may be done twice."""
        until = clock.monotonic() + PATIENCE_SECONDS
        with translated(self._catalog):
            while True:
                try:
                    return step(self._session or self._open())
                except psycopg.Error as error:
                    if not is_lost(error):
                        raise
                    self._drop()
                    if clock.monotonic() > until:
                        raise
                    clock.sleep(0.5)

    def _open(self) -> Session:
        opened = Session(self._address)
        try:
            for lane in self._lanes:
                opened.connection.execute(
                    psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(jobs.channel(lane)))
                )
            if not self._worker or not opened.rows(statements.ALIVE, worker=self._worker):
                self._worker = at_once(opened.manager.register_worker())
                self._taken = {}  # by the server's word others have it, if there was any
            else:
                at_once(opened.manager.update_heartbeat(self._worker))
        except BaseException:
            opened.close()
            raise
        self._session, self._since, self._look_at = opened, clock.monotonic(), 0.0
        return opened

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _keep_beating(self) -> None:
        """Give signs of life, whatever the worker's own thread is at; on a session of its own."""
        opened: Session | None = None
        is_away = False
        while not self._stop.wait(BEAT_SECONDS):
            try:
                opened = opened or Session(self._address)
                at_once(opened.manager.update_heartbeat(self._worker))
                is_away = False
            except (psycopg.Error, CatalogAwayError) as error:
                if not is_away:
                    log.warning("queue away", extra={"fields": {"message": type(error).__name__}})
                is_away = True
                if opened is not None:
                    opened.close()
                opened = None
        if opened is not None:
            opened.close()

    def _told(self) -> bool:
        """Whether the server has told that a job has come; what it told is taken in."""
        if self._session is None:
            return True
        try:
            return any([True for _ in self._session.connection.notifies(timeout=0)])
        except psycopg.Error:
            return True  # asking it then finds out what there is to it

    def _asked(self) -> dict[str, Any]:
        """What of the queue this worker may do, and understands."""
        tasks = list(jobs.TASKS.values())
        return {"queues": self._queues, "tasks": tasks, "policy": self._policy, "format": str(jobs.FORMAT)}

    def _look(self, opened: Session) -> tuple[Action, ...]:
        rows = opened.rows(statements.WAITING, most=_WINDOW, **self._asked())
        self._many = len(rows) == _WINDOW
        if self._many:
            rows = opened.rows(statements.FIRST_OF_EACH, each=_OF_EACH, **self._asked())
        return tuple(action for row in rows if (action := self._read(row["args"])) is not None)

    def _say(self, opened: Session) -> None:
        for key, number in tuple(self._unsaid.items()):
            opened.rows(statements.END, id=number, worker=self._worker)
            del self._unsaid[key]

    def _read(self, arguments: dict[str, Any]) -> Action | None:
        try:
            return jobs.read(arguments)
        except jobs.NotUnderstoodError as error:
            self._tell(f"A job in the queue is left to workers of another release: {error}")
            return None

    def _refuse(self, row: dict[str, Any]) -> None:
        if row["format"] != str(jobs.FORMAT) or row["task_name"] not in jobs.TASKS.values():
            what = f"{row['task_name']} in format {row['format']}"
            self._tell(f"Jobs in the queue are left to workers of another release: {what} is not known to this one")
        else:
            policy, ours = str(row["policy"])[:8], self._policy[:8]
            self._tell(
                f"Jobs in the queue are left to other workers: they were planned under the policy {policy}…, and this "
                f"worker has {ours}…. Give every host the same backups.yaml"
            )

    def _tell(self, sentence: str) -> None:
        if sentence not in self._refused:
            self._refused.add(sentence)
            log.warning("refused", extra={"fields": {"message": sentence}})
            self._warn(sentence)

    def _job(self, offer: Offer) -> Job:
        action = offer.action
        return Job(
            id=None,
            queue=jobs.queue_name(offer.lane),
            task_name=jobs.TASKS[action.kind],
            priority=offer.priority,
            lock=action.key,
            queueing_lock=action.key,
            task_kwargs=jobs.written(action, self._policy, by=self._worker, put_at=clock.now(), vaults=offer.vaults),
        )


def _tidy(opened: Session) -> None:
    """Forget what has ended long ago, and what nobody wanted."""
    at_once(opened.manager.delete_old_jobs(nb_hours=_FORGET_HOURS, include_failed=True, include_cancelled=True))
    opened.rows(statements.FORGET)
