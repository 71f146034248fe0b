"""The steps of a publication, in order: keys → hours → days → attribution → marts → contract checks → `as_of`."""

from orcost_pipeline.warehouse import raw
from orcost_pipeline.warehouse.publication.attribution import ATTRIBUTION
from orcost_pipeline.warehouse.publication.checks import CONTRACT_CHECKS
from orcost_pipeline.warehouse.publication.days import DAYS
from orcost_pipeline.warehouse.publication.hours import ANALYTICS, ASKED, COUNTERS, COUNTING, NAMES
from orcost_pipeline.warehouse.publication.keys import HOLDER, KEYS, UNREADABLE
from orcost_pipeline.warehouse.publication.marts import MARTS
from orcost_pipeline.warehouse.publication.rebuild import FOREIGN_KEYS, REVIVAL
from orcost_pipeline.warehouse.publication.step import Change, Computation, ContractCheck, Step
from orcost_pipeline.warehouse.publication.transaction import Publication, When


def _purge(publishing: Publication) -> None:
    """Drops raw rows of the account that are kept no longer."""
    raw.purge(publishing.connection, publishing.account, publishing.as_of, publishing.raw_kept)


# A mapping alone moves no instant.
COMPLETION = (
    Change(
        name="complete_account",
        reads=("raw.account", "raw.extracted"),
        when=When.EXTRACTION,
        writes=("ref.account",),
    ),
    Computation(
        name="purge",
        when=When.EXTRACTION,
        writes=tuple(f"raw.{table}" for table in raw.TABLES),
        compute=_purge,
    ),
)

STEPS: tuple[Step, ...] = (
    *HOLDER,
    *COUNTING,
    *REVIVAL,
    *KEYS,
    *UNREADABLE,
    *FOREIGN_KEYS,
    *NAMES,
    *ASKED,
    *ANALYTICS,
    *COUNTERS,
    *DAYS,
    *ATTRIBUTION,
    *MARTS,
    *CONTRACT_CHECKS,
    *COMPLETION,
)


def perform(step: Step, publishing: Publication) -> None:
    """Performs one step."""
    step.perform(publishing)


def publish(publishing: Publication) -> frozenset[str]:
    """Performs every step of the publication's occasions; returns the names of the contract checks that it asked.

    Raises ContractError where one does not hold, AccountTwiceError where another account has a key of this one.
    """
    steps = [step for step in STEPS if step.when in publishing.occasions]
    for step in steps:
        perform(step, publishing)
    return frozenset(step.name for step in steps if isinstance(step, ContractCheck))
