"""What Alembic runs: migrations in the transaction of the connection that `upgrade` was given."""

from __future__ import annotations

from alembic import context

from server.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
