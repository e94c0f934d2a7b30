"""Watch: what a running worker notices of changes, as one more fact for the plan.

Nothing is kept of it. A worker that begins to watch takes each source for changed, since nobody saw what happened
before; from then on the catalog's facts say which of the noticed changes a backup has.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime

from cto_backups import clock
from cto_backups.core.duration import format_duration
from cto_backups.core.facts import Facts
from cto_backups.core.plan import due, last_backup_at
from cto_backups.core.schedule import rescan_interval
from cto_backups.core.watched import Fed, Feed, Noticed, Place, Watch, Watchable
from cto_backups.core.watching import watching_trigger
from cto_backups.errors import BackupsError, SourceError
from cto_backups.flows.installation import Installation

log = logging.getLogger("cto_backups")

LOOK_SECONDS = 0.5
"""How often changes are asked for: what happens in between is told as one."""
TRY_AGAIN_SECONDS = 60.0
TRY_AGAIN_FACTOR = 100
"""What could not be watched is tried again after a minute, or after so many times as long as trying took."""

_Folders = list[tuple[bytes, frozenset[bytes] | None]]


class Watching:
    """The changes noticed so far of the sources that policy wants watched, for the thread that made it."""

    def __init__(self, installation: Installation, watch: Watch, warn: Callable[[str], None]) -> None:
        self._installation = installation
        self._watch = watch
        self._warn = warn
        self._noticed: dict[str, Noticed] = {}
        self._known = Facts()
        triggers = {name: watching_trigger(source.triggers) for name, source in installation.policy.sources.items()}
        self._triggers = {name: trigger for name, trigger in triggers.items() if trigger is not None}
        self._reasons: dict[str, str | None] = {}
        self._folders: dict[str, _Folders] = {}
        self._feeds: dict[str, Feed] = {}
        self._try_again = 0.0

    @property
    def watched(self) -> tuple[str, ...]:
        """The sources that are watched now."""
        return tuple(name for name, reason in self._reasons.items() if reason is None)

    @property
    def noticed(self) -> tuple[str, ...]:
        """The sources with changes that no backup has, as far as was observed."""
        return tuple(self._noticed)

    def look(self) -> None:
        """Take in what has happened; now and then, begin again with what could not be watched."""
        seen, again = self._watch.look(), clock.monotonic() >= self._try_again
        told = {name: feed.look() for name, feed in self._feeds.items()}
        lost = {**seen.lost, **(self._watch.replaced() if again else {})}
        lost |= {name: hint.lost for name, hint in told.items() if hint.lost and self._reasons.get(name) is None}
        for name, reason in lost.items():
            self._say(name, reason)
        if again:
            began = clock.monotonic()
            for name in self.watched:
                self._follow(name)
            for name in sorted(self._triggers.keys() - set(self.watched)):
                self._begin(name)
            took = clock.monotonic() - began  # it may have gone through a large tree, in vain
            self._try_again = clock.monotonic() + max(TRY_AGAIN_SECONDS, TRY_AGAIN_FACTOR * took)
        now = clock.now()
        for name in seen.changed | lost.keys() | {name for name, hint in told.items() if hint.changed}:
            self._changed(name, now)

    def observed(self, facts: Facts, until: datetime) -> Facts:
        """The facts, with the changes up to a moment that no backup has; what one has is forgotten."""
        sources = dict(facts.sources)
        for name, noticed in tuple(self._noticed.items()):
            if name not in sources:
                continue
            served = last_backup_at(sources[name], until)
            if served is not None and noticed.last <= served:
                del self._noticed[name]
            elif noticed.first <= until:
                sources[name] = replace(sources[name], noticed=Noticed(noticed.first, min(noticed.last, until)))
        self._known = Facts(sources={**self._known.sources, **sources})
        return replace(facts, sources=sources)

    def due(self) -> tuple[str, ...]:
        """The sources with noticed changes that something is due for, by the facts as they were last observed.

        And those of which no facts were observed yet.
        """
        now = clock.now()
        known = {name: self._known.sources[name] for name in self._noticed if name in self._known.sources}
        facts = Facts(sources={name: replace(one, noticed=self._noticed[name]) for name, one in known.items()})
        actions = due(self._installation.policy, facts, now, known)
        unknown = (name for name in self._noticed if name not in known)
        return tuple(dict.fromkeys([*(action.source for action in actions if action.source is not None), *unknown]))

    def _changed(self, name: str, now: datetime) -> None:
        before = self._noticed.get(name)
        self._noticed[name] = Noticed(before.first if before else now, now)

    def _follow(self, name: str) -> None:
        """Begin again where a source has come to lie elsewhere: a link on the way to it leads to another place."""
        if name in self._feeds:
            return
        with suppress(BackupsError, OSError):  # not there: its backup tells
            source = self._installation.source(name)
            if isinstance(source, Watchable) and _folders(source.places()) != self._folders[name]:
                self._begin(name)

    def _begin(self, name: str) -> None:
        try:
            source = self._installation.source(name)
            if isinstance(source, Fed) and self._listen(name, source):
                reason = None
            elif not isinstance(source, Watchable):
                del self._triggers[name]  # of its kind none is: nobody expects it
                return
            else:
                places = source.places()
                self._folders[name] = _folders(places)
                reason = self._watch.add(name, places) if places else "it is not in files of this machine"
        except SourceError as error:
            reason = error.why or str(error)
        except BackupsError as error:
            reason = str(error)
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
        self._say(name, reason)
        if reason is None:
            self._changed(name, clock.now())

    def _listen(self, name: str, source: Fed) -> bool:
        """Listen, anew where it was listened to before; no where nothing tells of changes."""
        former = self._feeds.pop(name, None)
        if former is not None:
            former.close()
        feed = source.feed()
        if feed is not None:
            self._feeds[name] = feed
        return feed is not None

    def close(self) -> None:
        """End listening to services; the watch is its maker's."""
        for feed in self._feeds.values():
            feed.close()

    def _say(self, name: str, reason: str | None) -> None:
        known, before = name in self._reasons, self._reasons.get(name)
        self._reasons[name] = reason
        if reason == before and known:
            return
        if reason is None:
            log.info("watched", extra={"fields": {"source": name}})
        if reason is not None:
            source = self._installation.policy.sources[name]
            every = format_duration(rescan_interval(self._triggers[name], source.category.rpo))
            self._warn(f"{name} is not watched for changes: {reason}. It is looked at every {every} instead.")
            log.warning("not watched", extra={"fields": {"source": name, "message": reason}})
        elif known:
            self._warn(f"{name} is watched for changes again.")


def _folders(places: Sequence[Place]) -> _Folders:
    return [(place.folder, place.names) for place in places]


@contextmanager
def watching(installation: Installation, warn: Callable[[str], None]) -> Iterator[Watching | None]:
    """Watch what policy wants watched, for as long as the block lasts; None when that is nothing."""
    if not any(watching_trigger(source.triggers) for source in installation.policy.sources.values()):
        yield None
        return
    watch = installation.watch()
    made = Watching(installation, watch, warn)
    try:
        made.look()
        yield made
    finally:
        made.close()
        watch.close()
