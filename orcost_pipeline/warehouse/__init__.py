"""The warehouse: schema, loading, publication, reading. Knows Postgres; neither HTTP nor Dagster."""
