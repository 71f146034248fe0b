"""The tables of the warehouse, version by version. Append-only: an older warehouse runs those that it lacks.

Up to 0013 migrations also made views and functions. Since then these stand in `views/` and `functions/`.
No version is numbered 0010.
"""
