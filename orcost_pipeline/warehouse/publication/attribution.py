"""Steps of attribution: who owns which key from which day on, by the mapping in force and every version of every key.

What stays out: how owners follow from rules (`companies/`); it is handed to the publication as `in_force`.
"""

from orcost_pipeline.warehouse.loading import copy_rows
from orcost_pipeline.warehouse.publication.step import Change, Computation, Merge, Merging, Staging
from orcost_pipeline.warehouse.publication.transaction import Publication, When

_COLUMNS = ("key_hash", "valid_from", "valid_to", "company", "share", "rule")


def _compute_owners(publishing: Publication) -> None:
    """Fills `owner`, and adds companies that it names to `ref.company`."""
    versions = publishing.execute("versions_of_keys").all()
    owners = [
        (it.key_hash, it.valid_from or "-infinity", it.valid_to or "infinity", it.company, it.share, it.rule)
        for it in publishing.in_force.owners(publishing.connection, publishing.account, versions)
    ]
    publishing.execute("owner")
    copy_rows(publishing.connection, "owner", _COLUMNS, owners)
    publishing.execute_apart("company_name", companies=[*{company for _, _, _, company, _, _ in owners}])


ATTRIBUTION = (
    Change(
        name="note_in_force",
        reads=("ref.mapping_version", "ref.price_plan_version"),
        when=When.ALWAYS,
        writes=("ref.account",),
    ),
    Computation(
        name="owner",
        reads=("ref.mapping_version", "ref.mapping_rule", "core.api_key", "core.api_key_version"),
        when=When.ALWAYS,
        makes="owner",
        writes=("ref.company",),
        compute=_compute_owners,
        sql=("versions_of_keys", "owner", "company_name"),
    ),
    Staging(
        name="assignment",
        reads=("owner", "ref.company", "core.api_key"),
        when=When.ALWAYS,
        makes="staged_assignment",
    ),
    Staging(
        name="touched_assignment",
        reads=("staged_assignment", "core.assignment"),
        when=When.ALWAYS,
        makes="touched_assignment",
    ),
    Staging(
        name="moved_company",
        reads=("staged_assignment", "core.assignment", "touched_assignment"),
        when=When.ALWAYS,
        makes="moved_company",
    ),
    Merging(
        name="merge_assignment",
        reads=("staged_assignment",),
        when=When.ALWAYS,
        staged="staged_assignment",
        merge=Merge(into="core.assignment", keys=("account_id", "key_id", "valid_from", "company_id"), within=()),
    ),
    # Days of which the owner alone changes are none of these: they are added up for the companies that moved.
    Change(name="touched_month", reads=("touched_day",), when=When.ALWAYS, writes=("touched_month",)),
    Staging(
        name="day_of_touched_month",
        reads=("touched_month",),
        when=When.ALWAYS,
        makes="day_of_touched_month",
    ),
    Staging(
        name="touched_holder",
        reads=("opened_holder", "core.api_key_day_span"),
        when=When.ALWAYS,
        makes="touched_holder",
    ),
    Staging(
        name="held_day",
        reads=("core.usage_daily", "touched_day", "touched_holder"),
        when=When.ALWAYS,
        makes="held_day",
    ),
    Change(
        name="reassigned_day",
        reads=("core.usage_daily", "touched_assignment"),
        when=When.ALWAYS,
        writes=("touched_day",),
    ),
)
