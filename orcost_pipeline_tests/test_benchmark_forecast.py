"""The benchmark of forecasts, in small: the warehouse that it fills is one of this version, and forecasts by it."""

from datetime import timedelta
from decimal import Decimal

import sqlalchemy as sa

from benchmarks.forecast import END, FIRST, MADE_ON, MONTHS, fill, read


def test_a_company_that_spends_the_same_each_day_is_forecast_exactly(engine: sa.Engine) -> None:
    day = timedelta(days=1)
    fill(engine, [{FIRST + number * day: Decimal(3) for number in range((END - FIRST).days)}])
    forecasts = read(engine)
    assert len(forecasts) == len(MONTHS) * len(MADE_ON)
    for (company, made_on), usd in forecasts.items():
        month = made_on.replace(day=1)
        days = ((month + 31 * day).replace(day=1) - month).days
        assert (company, usd) == (1, 3 * days)
