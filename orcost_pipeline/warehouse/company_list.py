"""`ref.company`: the attributes that the list of companies gives, written where they differ."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from orcost_pipeline.warehouse.loading import copy_rows
from orcost_pipeline.warehouse.statements import change


def publish_companies(engine: sa.Engine, attributes: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Makes the attributes those of the list: each row is a company and its `attributes`. Returns the rows written."""
    with engine.begin() as connection:
        change(connection, "listed_company")
        copy_rows(connection, "listed_company", ("company", *attributes), rows)
        return change(connection, "publish_companies").rowcount
