"""The database: SQLite with grouped commits or PostgreSQL, its tables, and what is read from them at once for many."""
