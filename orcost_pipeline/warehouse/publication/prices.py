"""Steps of prices: what each company's use of a model costs, by the price plans in force.

What stays out: how prices follow from plans (`billing/`); it is handed to the publication as `in_force`.
"""

from orcost_pipeline.warehouse.loading import copy_rows
from orcost_pipeline.warehouse.publication.step import Change, Computation, Merge, Merging, Staging
from orcost_pipeline.warehouse.publication.transaction import Publication, When

_RATES = ("credits_rate", "byok_rate", "prompt_rate", "completion_rate", "request_rate", "purchase_rate")
_COLUMNS = ("company", "model", "is_counter", "valid_from", "valid_to", *_RATES, "plan")


def _compute_prices(publishing: Publication) -> None:
    """Fills `price` for every company and model that it used."""
    used = publishing.execute("used_model").all()
    found = publishing.in_force.prices(publishing.connection, used)
    publishing.execute("price")
    copy_rows(
        publishing.connection,
        "price",
        _COLUMNS,
        (
            (
                *(it.company, it.model, it.is_counter, it.valid_from or "-infinity", it.valid_to or "infinity"),
                *(getattr(it, rate) for rate in _RATES),
                it.plan,
            )
            for it in found
        ),
    )


PRICES = (
    Computation(
        name="price",
        reads=("ref.price_plan_version", "ref.price_plan", "core.model_month", "ref.company", "core.model"),
        when=When.ALWAYS,
        makes="price",
        compute=_compute_prices,
        sql=("used_model", "price"),
    ),
    Staging(
        name="staged_price",
        reads=("price", "ref.company", "core.model"),
        when=When.ALWAYS,
        makes="staged_price",
    ),
    Staging(
        name="touched_price",
        reads=("staged_price", "core.price"),
        when=When.ALWAYS,
        makes="touched_price",
    ),
    Merging(
        name="merge_price",
        reads=("staged_price",),
        when=When.ALWAYS,
        staged="staged_price",
        merge=Merge(
            into="core.price",
            keys=("account_id", "company_id", "model_id", "is_counter", "valid_from"),
            within=(),
        ),
    ),
    Change(
        name="repriced_day",
        reads=("core.usage_daily", "core.assignment", "touched_price"),
        when=When.ALWAYS,
        writes=("touched_day",),
    ),
)
