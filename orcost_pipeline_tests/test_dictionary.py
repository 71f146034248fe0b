"""The data dictionary is what the database says today."""

import sqlalchemy as sa

from docs.dictionary import PAGE, dictionary


def test_the_data_dictionary_is_current(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert dictionary(connection) == PAGE.read_text(encoding="utf-8"), "run: python -m docs.dictionary"
