"""The benchmark of questions, in small: it asks what it says, and the product answers what the facts say."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from benchmarks.questions import DASHBOARD, Size, fill, instants_of, measure, publications
from orcost_pipeline_tests.kept_sums import untrue_sums

AS_OF = datetime(2026, 11, 27, 12, 34, 56, tzinfo=UTC)
SIZE = Size(facts=9_000, keys=60, companies=3, models=4, days=65)


def amounts(connection: sa.Connection, question: str, as_of: datetime) -> list[Decimal]:
    """What each row of an answer costs, largest first; rows that cost nothing left out."""
    statement, instants = sa.text(question), instants_of(as_of)
    answer = connection.execute(statement, {name: instants[name] for name in statement.compile().params})
    return sorted((row.credits_usd for row in answer if row.credits_usd), reverse=True)


@pytest.mark.slow
def test_the_product_answers_what_the_facts_say_and_each_question_is_measured(
    engine: sa.Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(engine, SIZE, AS_OF)
    with engine.connect() as connection:
        assert untrue_sums(connection) == {}
        for name, of_product, of_facts in DASHBOARD:
            told = amounts(connection, of_product, AS_OF)
            assert told, name
            assert told == amounts(connection, of_facts, AS_OF), name
    measure(engine, AS_OF, repeats=1)
    publications(engine, SIZE, AS_OF)
    with engine.connect() as connection:
        assert untrue_sums(connection) == {}
    lines = capsys.readouterr().out.splitlines()
    assert {name for name, _, _ in DASHBOARD} <= {line[:62].rstrip() for line in lines}
    assert sum(line.startswith("orcost report ") for line in lines) == 11
