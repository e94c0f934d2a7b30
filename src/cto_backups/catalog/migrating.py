"""Runs the migrations that a catalog lacks, in one transaction that its kind of database begins."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(engine: "Engine", *, schema: str | None = None) -> None:
    """Run the migrations that are missing, all or none. Raises what the database's driver raises."""
    # Loaded here, where they are needed: they take longer to import than a whole `status` takes.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy.exc import DBAPIError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            config.attributes["schema"] = schema
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise error.orig or error from None
