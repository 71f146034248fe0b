"""The warehouse's schema: migrations make the tables; views, functions and comments are what the files here say.

What belongs here: what the relations are, and how a warehouse is brought there. What stays out: rows (`publication/`)
and connections (`opening.py`).

A table changes by a new migration in `migrations/versions`. A view or function changes by editing its file in `views/`
or `functions/`, a comment by editing its sentence: the next `orcost sync`, `up` or `db migrate` applies it.
"""
