"""The warehouse's schema: migrations make the tables; views, functions and comments are what the files here say.

What belongs here: what the relations are, and how a warehouse is brought there. What stays out: rows (`publication/`)
and connections (`warehouse/opening.py`).

A table changes by a new migration in `migrations/versions`, whose number becomes `SCHEMA_VERSION`. A view or function
changes by editing its file in `views/` or `functions/`, a comment by editing its sentence (those of columns are in
`column_comments.py`): the next `orcost sync`, `up` or `db migrate` applies it. A new column of a view is its last:
Postgres replaces a view in place only where columns are appended. What is asked of Postgres's catalogue meanwhile is in
`catalogue/`.
"""

from importlib import resources

# The number of the newest migration.
SCHEMA_VERSION = max(
    file.name[:4]
    for file in (resources.files("orcost_pipeline.warehouse.schema") / "migrations" / "versions").iterdir()
    if file.name.endswith(".sql")
)
