"""SQLite and PostgreSQL: connections, transactions, schema revisions, roles, SQL errors."""
