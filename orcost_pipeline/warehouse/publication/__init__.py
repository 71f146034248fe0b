"""One account's publication: history → hours → days → attribution → marts → contract checks → `as_of`, in one
transaction. Nothing is visible before the commit, and nothing is committed that breaks a contract check.

What belongs here: the steps, each declared with what it reads, makes and replaces (`order.py` has them in order), their
SQL in a file of the step's name, and how the transaction begins (`opening.py`). What stays out: how rows are loaded and
merged (`loading.py`), and what is asked of what is published.
"""

from orcost_pipeline.warehouse.publication.opening import publication
from orcost_pipeline.warehouse.publication.order import publish
from orcost_pipeline.warehouse.publication.transaction import Publication

__all__ = ["Publication", "publication", "publish"]
