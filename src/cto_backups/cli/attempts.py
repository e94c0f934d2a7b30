"""Doing the same for several sources or vaults: what goes wrong with one does not keep the others from being served."""

import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from cto_backups.cli import errors
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.errors import BackupsError, ExitStatus

Result = TypeVar("Result")


def chosen(known: Iterable[str], given: list[str] | None) -> list[str]:
    """The names given, each once, or all that are known."""
    return list(dict.fromkeys(given or known))


def chosen_vaults(declared: Iterable[str], given: list[str] | None) -> list[str]:
    """The vaults given, each once, or all that the policy declares. Raises NotFoundError for one that it does not."""
    known = list(declared)
    names = chosen(known, given)
    for name in names:
        if name not in known:
            from cto_backups.core.wording import not_declared

            raise not_declared("vault", name, known)
    return names


def in_each(
    screen: Screen,
    vaults: Iterable[str],
    do: Callable[[str], tuple[dict[str, Any], ExitStatus]],
    *,
    failed: dict[str, Any] | None = None,
) -> tuple[list[dict[str, Any]], ExitStatus]:
    """Do it in each vault: what is to be said of each in JSON, and the worst exit status.

    One that fails keeps no other from it: it is told, and stands among the answers with its error and with `failed`.
    """
    answers: list[dict[str, Any]] = []
    statuses: list[ExitStatus] = []
    for name in vaults:
        result = attempt(screen, partial(do, name))
        if isinstance(result, BackupsError):
            answer = {"vault": name, **(failed or {}), "error": errors.as_document(result)}
            status = result.exit_status
        else:
            answer, status = result
        answers.append(answer)
        statuses.append(status)
    return answers, worst(statuses)


def attempt(screen: Screen, do: Callable[[], Result], *, prefix: str = "Error") -> Result | BackupsError:
    """What `do` returns, or the error that it raised, which has then been shown. A defect becomes an error as well."""
    try:
        return do()
    except BackupsError as error:
        screen.problem(error, prefix=prefix)
        return error
    except Exception as error:  # noqa: BLE001 - a defect that one source meets must not cost the others their backup
        trace(screen, error)
        found = errors.defect(error, debugging=screen.options.debugging)
        screen.problem(found, prefix=prefix)
        return found


def trace(screen: Screen, error: BaseException) -> None:
    """Show the traceback of a defect, without secrets, to those who asked for it."""
    if screen.options.debugging:
        # Loaded in any case: a traceback may hold what was never known to be secret, but looks like it.
        from cto_backups.config import redaction  # noqa: F401

        print(errors.clean("".join(traceback.format_exception(error))), file=sys.stderr, end="")  # noqa: T201
