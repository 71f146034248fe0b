"""Names of companies as people type them."""

import pytest

from orcost_pipeline.companies.names import require_known
from orcost_pipeline.errors import PermanentError


def test_names_that_differ_in_case_only_are_known_each() -> None:
    for name in ("ACME", "Acme"):
        require_known(name, ["ACME", "Acme"])


def test_an_unknown_company_is_told_with_the_names_like_it() -> None:
    with pytest.raises(PermanentError) as refused:
        require_known("acme gmbh", ["Acme GmbH", "Acme Ltd", "Zebra"])
    assert str(refused.value) == 'No company is called "acme gmbh". Near: "Acme GmbH".'
    with pytest.raises(PermanentError) as refused:
        require_known("Q", ["Acme"])
    assert str(refused.value) == 'No company is called "Q".'
