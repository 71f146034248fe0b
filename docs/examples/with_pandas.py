# %% [markdown]
# # Spend in pandas
# `orcost db url` prints the URL. `coerce_float=False` keeps amounts exact: without it pandas makes them doubles.

# %%
import os

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from adbc_driver_postgresql import dbapi

URL = os.environ["ORCOST_DATABASE_URL"]
AMOUNT = pa.decimal128(38, 18)

engine = sa.create_engine(sa.make_url(URL).set(drivername="postgresql+psycopg"))
daily = pd.read_sql("select day, company, model, total_usd from marts.spend_daily", engine, coerce_float=False)
daily = daily.astype({"total_usd": pd.ArrowDtype(AMOUNT)})

# %% [markdown]
# What did each company cost by month, and how much is that of all?

# %%
daily["month"] = pd.to_datetime(daily["day"]).dt.to_period("M")
print(daily.groupby(["month", "company"])["total_usd"].sum().sort_values(ascending=False))

# %% [markdown]
# Arrow without pandas: the driver hands over a numeric as text with its precision, which casts without loss.

# %%
with dbapi.connect(URL) as connection, connection.cursor() as cursor:
    cursor.execute("select total_usd from marts.spend_daily")
    amounts = pa.chunked_array([chunk.storage for chunk in cursor.fetch_arrow_table()["total_usd"].chunks])
assert amounts.cast(AMOUNT).to_pylist() == daily["total_usd"].to_list()

# %%
print(f"total {daily['total_usd'].sum()} {daily['total_usd'].dtype}")
