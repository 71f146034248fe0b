"""Seconds in which dlt merges generated hourly facts: into a new table, and the same rows again.

Runs where dlt is: `python -m benchmarks.dlt_pipeline.load ROWS TIMES` prints {"first": [...], "again": [...]}.
"""

import json
import os
import sys
import time
from typing import Any

import dlt

from benchmarks.generated_rows import COLUMNS, KEYS, generated_rows


def main() -> None:
    count, times = int(sys.argv[1]), int(sys.argv[2])
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in generated_rows(count)]
    seconds: dict[str, list[float]] = {"first": [], "again": []}
    for number in range(times):
        pipeline = dlt.pipeline(
            f"load_{number}",
            pipelines_dir="dlt_pipelines",
            destination=dlt.destinations.postgres(os.environ["ORCOST_DATABASE_URL"]),
            dataset_name=f"load_{number}",
        )
        for load in seconds.values():
            started = time.perf_counter()
            pipeline.run(usage_hourly(rows))
            load.append(time.perf_counter() - started)
    print(json.dumps(seconds))


@dlt.resource(
    write_disposition="merge",
    primary_key=KEYS,
    columns={"credits_usd": {"data_type": "decimal", "precision": 38, "scale": 18}},
)
def usage_hourly(rows: list[dict[str, Any]]) -> Any:
    # A page at a time, as an API would tell them.
    for start in range(0, len(rows), 10_000):
        yield rows[start : start + 10_000]


if __name__ == "__main__":
    main()
