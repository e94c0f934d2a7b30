"""Runs migrations on the connection that `migrating.migrate` hands over, inside its one transaction."""

from alembic import context

given = context.config.attributes
context.configure(connection=given["connection"], version_table_schema=given["schema"], transactional_ddl=True)
context.run_migrations()
