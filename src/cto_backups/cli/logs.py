"""Structured logs: to stderr with --verbose, as JSON lines with --json as well; otherwise nowhere."""

import logging
import sys
from typing import Any

import structlog

from cto_backups.cli.options import GlobalOptions
from cto_backups.config.redaction import redact_processor


def configure(options: GlobalOptions) -> None:
    """Send the log where the options say; every field passes the redaction of secrets first."""
    level = logging.DEBUG if options.verbose else logging.CRITICAL
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if options.json
        else structlog.dev.ConsoleRenderer(colors=options.colored and sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact_processor,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
