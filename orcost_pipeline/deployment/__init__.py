"""`orcost up`: the services under a supervisor, and Dagster's home."""
