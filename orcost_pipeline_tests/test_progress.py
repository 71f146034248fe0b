"""A long reading says how far it is, and what one waits for."""

import re
from dataclasses import replace
from functools import partial

import pytest
import sqlalchemy as sa

from orcost_pipeline.openrouter.api.progress import Progress
from orcost_pipeline.simulator import Options, demo
from orcost_pipeline.sync import steps
from orcost_pipeline_tests.world import NOON, World


def test_a_reading_tells_its_part_and_what_is_left_every_few_seconds() -> None:
    told: list[str] = []
    now = [0.0]
    watched = Progress(told.append, lambda: now[0])
    watched.begin("usage by hour")
    watched.plan(60)
    watched.plan(40)
    for second in range(1, 101):
        now[0] = second
        watched.done(1)
    assert told[0] == "usage by hour: 3 %, about 2 minutes left (60 questions a minute are allowed)"
    assert told[1].startswith("usage by hour: 5 %")
    assert told[-1] == "usage by hour: 99 %"
    assert len(told) == 49


def test_what_is_over_soon_says_nothing() -> None:
    told: list[str] = []
    now = [0.0]
    watched = Progress(told.append, lambda: now[0])
    watched.begin("activity of each key")
    watched.plan(29)
    for tenth in range(29):
        now[0] = tenth / 10
        watched.done(1)
    assert told == []


@pytest.mark.slow
@pytest.mark.parametrize("options", [Options(max_rows=500)])
def test_a_first_sync_tells_of_hours_days_and_activity_whatever_is_split(engine: sa.Engine, options: Options) -> None:
    world = World(engine, demo(NOON), account="demo", options=options)
    told: list[str] = []
    step = replace(world.step(), tell=told.append, progress=partial(Progress, shown_after=0, shown_every=0))
    world.read(step)
    steps.publish_account(step)
    parts: dict[str, list[int]] = {}
    for line in told:
        found = re.fullmatch(r"([a-z ]+): (\d+) %(, about .*)?", line)
        assert found, line
        parts.setdefault(found[1], []).append(int(found[2]))
    assert "activity of each key" in parts
    for shares in parts.values():
        assert shares == sorted(shares)
        assert shares[0] >= 0
        assert shares[-1] <= 100
    if options.max_rows == 500:
        assert len(parts["usage by hour"]) > 10
        assert len(parts["usage by day"]) > 10
