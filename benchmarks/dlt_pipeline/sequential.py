"""The usage of an account by a client that asks one question after another and upserts row by row.

`python -m benchmarks.dlt_pipeline.sequential DAYS`; key, URL and database come from the same variables as orcost's.
"""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import psycopg

from benchmarks.dlt_pipeline.usage_question import COUNTS, LATE, MONEY, cell, usage_question

TABLE = (
    "create schema if not exists by_client",
    "create table if not exists by_client.usage_hourly (hour timestamptz, key_hash text, model text, "
    + "".join(f"{name} bigint, " for name in COUNTS)
    + "".join(f"{name} numeric, " for name in MONEY)
    + "primary key (hour, key_hash, model))",
)
COLUMNS = ("hour", "key_hash", "model", *COUNTS, *MONEY)
UPSERT = (
    f"insert into by_client.usage_hourly ({', '.join(COLUMNS)}) values ({', '.join(f'%({it})s' for it in COLUMNS)}) "
    f"on conflict (hour, key_hash, model) do update set {', '.join(f'{it} = excluded.{it}' for it in COLUMNS[3:])}"
)


def main() -> None:
    now = datetime.now(UTC)
    since = now.replace(minute=0, second=0, microsecond=0) - timedelta(days=int(sys.argv[1]))
    headers = {"Authorization": f"Bearer {os.environ['OPENROUTER_API_KEY']}"}
    with (
        psycopg.connect(os.environ["ORCOST_DATABASE_URL"]) as connection,
        httpx.Client(base_url=os.environ["OPENROUTER_BASE_URL"], headers=headers, timeout=60) as client,
    ):
        for statement in TABLE:
            connection.execute(statement)
        last = connection.execute("select max(hour) from by_client.usage_hourly").fetchone()
        start = last[0] - LATE if last and last[0] else since
        for workspace in pages(client, "workspaces"):
            for key in pages(client, "keys", workspace_id=workspace["id"], include_disabled="true"):
                rows = usage(client, key["hash"], start, now)
                with connection.cursor() as cursor:
                    cursor.executemany(UPSERT, rows)


def pages(client: httpx.Client, path: str, **params: str) -> Iterator[dict[str, Any]]:
    offset = 0
    while page := client.get(path, params={**params, "offset": offset}).raise_for_status().json()["data"]:
        yield from page
        offset += len(page)


def usage(client: httpx.Client, key_hash: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    response = client.post("analytics/query", json=usage_question(key_hash, start, end)).raise_for_status()
    return [cell(key_hash, row) for row in response.json(parse_float=Decimal)["data"]["data"]]


if __name__ == "__main__":
    main()
