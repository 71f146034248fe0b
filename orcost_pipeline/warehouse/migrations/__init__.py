"""The warehouse's schema, version by version, and what each relation and column means."""
