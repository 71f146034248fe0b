"""Templates become pages. Every value is escaped, so that a name is text whatever it contains."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from orcost_pipeline.text import clean


def page(template: str, **values: Any) -> str:
    """The page of a template of `templates/`; raises jinja2.UndefinedError where it lacks a value."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("orcost_pipeline.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:
    """Text without control characters, which HTML does not allow and which could reorder what is read."""
    return clean(value) if type(value) is str else value
