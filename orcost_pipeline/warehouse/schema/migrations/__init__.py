"""The tables of the warehouse, version by version. Append-only: an older warehouse runs those that it lacks.

Up to 0013 migrations also made views and functions. Since then these stand in `views/` and `functions/`.
A new one has the next number, and the newest before it as its `down_revision`. There is no 0010, 0020 or 0021.
"""
