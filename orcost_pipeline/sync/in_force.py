"""What the files in force make of an account when it is published: the mapping owners, the price plans prices."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from orcost_pipeline.billing.prices import Price, Used, prices
from orcost_pipeline.companies.assignment import Assignment
from orcost_pipeline.sync.attribution import assignments
from orcost_pipeline.warehouse.questions.plans import plan_rows


class FilesInForce:
    """Mapping and price plans, as the warehouse has them in force."""

    def owners(self, connection: sa.Connection, account: str, versions: Sequence[sa.Row]) -> list[Assignment]:
        """The owners of the account's keys; `versions` are all versions of all keys."""
        return assignments(connection, account, versions)

    def prices(self, connection: sa.Connection, used: Iterable[sa.Row]) -> list[Price]:
        """The prices of what companies used."""
        return prices(plan_rows(connection), (Used(*row) for row in used))
