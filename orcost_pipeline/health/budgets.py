"""Findings about companies, from stored facts: budgets that are spent or will be, and days far above others."""

import shlex
from collections.abc import Iterator

from orcost_pipeline.formats import rounded, share
from orcost_pipeline.health.finding import Code, Finding, Severity
from orcost_pipeline.health.standing import WarehouseState
from orcost_pipeline.text import short
from orcost_pipeline.warehouse.questions.budgets import Budget, Spike
from orcost_pipeline.windows import day_start

_CODES = {"near": Code.BUDGET_NEAR, "at_risk": Code.BUDGET_AT_RISK, "exceeded": Code.BUDGET_EXCEEDED}


def budget_findings(stored: WarehouseState) -> Iterator[Finding]:
    """Of each company at most one finding about its budget, the worst, and one about its last settled day."""
    yield from (_budget_finding(it) for it in stored.budgets if it.status in _CODES)
    yield from map(_spike_finding, stored.spikes)


def _budget_finding(budget: Budget) -> Finding:
    spent = f"{rounded(budget.spent_usd, 2)} USD ({share(budget.spent_usd, budget.budget_usd)})"
    of_budget = f"of its budget of {rounded(budget.budget_usd, 2)} USD for {budget.month:%Y-%m}"
    message = f"{short(budget.company)} spent {spent} {of_budget}."
    if budget.forecast_usd is not None and budget.status != "exceeded":
        message += f" Forecast for the whole month: {rounded(budget.forecast_usd, 2)} USD."
    todo = f"See what it is spent on: {_explain(budget.company)}; limit its keys at openrouter.ai/settings/keys, or "
    todo += "change monthly_budget_usd in the list of companies"
    return Finding(Severity.WARNING, _CODES[budget.status], None, message, todo, subject=budget.company)


def _spike_finding(spike: Spike) -> Finding:
    usual = f"the median of {spike.weeks} earlier {spike.day:%A}s is {rounded(spike.usual_usd, 2)} USD"
    message = f"{short(spike.company)} spent {rounded(spike.spent_usd, 2)} USD on {spike.day}; {usual}."
    todo = f"See what it was spent on: {_explain(spike.company)} --day {spike.day}"
    return Finding(Severity.WARNING, Code.SPEND_SPIKE, None, message, todo, day_start(spike.day), subject=spike.company)


def _explain(company: str) -> str:
    """The command that explains a company's figures; one whose name is no line of text has to be typed."""
    return f"orcost explain {shlex.quote(company) if company.isprintable() else 'COMPANY'}"
