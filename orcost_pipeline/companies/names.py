"""Names of companies as people type them."""

from collections.abc import Collection
from difflib import get_close_matches

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.text import quoted


def require_known(company: str, names: Collection[str]) -> None:
    """Raises PermanentError, with up to three similar names, for a company that is not among the names."""
    if company not in names:
        known = {name.lower(): name for name in names}
        near = [quoted(known[name]) for name in get_close_matches(company.lower(), known, n=3)]
        raise PermanentError(
            f"No company is called {quoted(company)}." + (f" Near: {', '.join(near)}." if near else "")
        )
