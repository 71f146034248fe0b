"""The usage of an account by dlt: workspaces, their keys, and each key's usage by hour and model, merged.

Runs in an environment of its own, where dlt is: `python -m benchmarks.dlt_pipeline.pipeline DAYS`. Key, URL and
database come from the same variables as orcost's.
"""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import dlt
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import OffsetPaginator

from benchmarks.dlt_pipeline.usage_question import LATE, cell, usage_question

MONEY = {"data_type": "decimal", "precision": 38, "scale": 18}


@dlt.source
def openrouter(base_url: str, api_key: str, since: datetime) -> Any:
    """The resources of one account; usage since `since`, or since shortly before the last hour that is stored."""
    pages = OffsetPaginator(limit=100, total_path=None)
    client = RESTClient(base_url, auth=BearerTokenAuth(api_key), paginator=pages, data_selector="data")
    workspaces = [workspace for page in client.paginate("workspaces") for workspace in page]
    keys = [
        key
        for workspace in workspaces
        for page in client.paginate("keys", params={"workspace_id": workspace["id"], "include_disabled": "true"})
        for key in page
    ]

    @dlt.defer
    def usage_of(key_hash: str, start: datetime) -> list[dict[str, Any]]:
        response = client.post("analytics/query", json=usage_question(key_hash, start, datetime.now(UTC)))
        response.raise_for_status()
        return [cell(key_hash, row) for row in response.json(parse_float=Decimal)["data"]["data"]]

    # No transformer of the keys: dlt moves the start of its `incremental` with every key, and hours are missing (its
    # issue 2838).
    @dlt.resource(
        write_disposition="merge",
        primary_key=("hour", "key_hash", "model"),
        columns={"credits_usd": MONEY, "byok_usd": MONEY},
    )
    def usage_hourly(
        hour: Any = dlt.sources.incremental("hour", initial_value=since, lag=LATE.total_seconds()),  # noqa: B008
    ) -> Iterator[Any]:
        start = hour.start_value
        for key in keys:
            yield usage_of(key["hash"], start)

    return (
        dlt.resource(workspaces, name="workspaces", write_disposition="merge", primary_key="id"),
        dlt.resource(keys, name="keys", write_disposition="merge", primary_key="hash"),
        usage_hourly,
    )


def main() -> None:
    since = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=int(sys.argv[1]))
    pipeline = dlt.pipeline(
        "openrouter",
        pipelines_dir="dlt_pipelines",
        destination=dlt.destinations.postgres(os.environ["ORCOST_DATABASE_URL"]),
        dataset_name="by_dlt",
    )
    print(pipeline.run(openrouter(os.environ["OPENROUTER_BASE_URL"], os.environ["OPENROUTER_API_KEY"], since)))


if __name__ == "__main__":
    main()
