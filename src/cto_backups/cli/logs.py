"""Structured logs: to stderr with --verbose, as JSON lines with --json as well; otherwise nowhere.

Flows log with the standard library, which costs nothing when nobody listens: a message, and `extra={"fields": {…}}`.
structlog gives it its form, and is loaded only then.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

from cto_backups.cli.options import GlobalOptions

LOGGER = "cto_backups"


def configure(options: GlobalOptions) -> None:
    """Send the log where the options say; every field passes the redaction of secrets first."""
    logger = logging.getLogger(LOGGER)
    logger.propagate = False
    if options.verbose:
        logger.handlers = [_handler(options)]
        logger.setLevel(logging.DEBUG)
    else:
        logger.handlers = [logging.NullHandler()]
        logger.setLevel(logging.CRITICAL)


def arguments(options: GlobalOptions) -> tuple[str, ...]:
    """How a process that works for this one is told to log as this one does; nothing where it is not to."""
    return ("json" if options.json else "console",) if options.verbose else ()


def _handler(options: GlobalOptions) -> logging.Handler:
    import structlog

    from cto_backups.config.redaction import redact_processor

    renderer: Any = (
        structlog.processors.JSONRenderer()
        if options.json
        else structlog.dev.ConsoleRenderer(colors=options.colored and sys.stderr.isatty(), pad_event_to=0)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                _take_fields,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact_processor,
                renderer,
            ],
        )
    )
    return handler


def _take_fields(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the fields that the log call gave."""
    event.update(getattr(event["_record"], "fields", {}))
    return event
