"""`orcost export`: the wide rows of the marts, and FOCUS, as files."""
