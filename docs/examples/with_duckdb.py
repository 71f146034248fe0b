# %% [markdown]
# # Spend in DuckDB
# DuckDB reads the warehouse where it is, and keeps amounts as `DECIMAL(38,18)`. `orcost db url` prints the URL.

# %%
import os

import duckdb
from duckdb_extensions import import_extension

import_extension("postgres_scanner")  # from the wheel; with a network, `install postgres` does the same
spend = duckdb.connect()
spend.execute("load postgres_scanner")
spend.execute(f"attach '{os.environ['ORCOST_DATABASE_URL']}' as orcost (type postgres, read_only)")

# %% [markdown]
# What did each company cost, and on whose models?

# %%
print(
    spend.sql("""
        select company, model_author, sum(requests) as requests, sum(total_usd) as total_usd
        from orcost.marts.spend_daily
        group by all
        order by total_usd desc
    """)
)

# %% [markdown]
# A function is asked in Postgres, and has its types too.

# %%
print(
    spend.sql("""
        from postgres_query('orcost', $$
            select day, company, credits_usd
            from marts.company_spend_local('Europe/Warsaw', '2026-11-01', '2026-12-01')
        $$)
    """)
)

# %% [markdown]
# A copy for a laptop: Parquet with the same decimals.

# %%
spend.execute("copy (from orcost.marts.spend_daily) to 'spend_daily.parquet'")
kind, total = spend.sql("select typeof(total_usd), sum(total_usd) from 'spend_daily.parquet' group by all").fetchone()
print(f"total {total} {kind}")
