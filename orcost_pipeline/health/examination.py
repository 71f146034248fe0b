"""The whole examination of a deployment: OpenRouter, database and machine are checked at the same time.

It changes nothing: it neither migrates nor creates a database (an existing embedded one is started).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

from orcost_pipeline.health.billing import billing_findings
from orcost_pipeline.health.database import NO_WAREHOUSE_YET, STATEMENT_WITHIN, check_database
from orcost_pipeline.health.finding import Code, Finding
from orcost_pipeline.health.machine import (
    env_findings,
    home_findings,
    is_dagster,
    key_findings,
    muted_findings,
    port_findings,
)
from orcost_pipeline.health.mapping import company_list_findings, mapping_findings, superseded
from orcost_pipeline.health.openrouter import (
    ANSWER_WITHIN,
    NO_EVIDENCE,
    ask_all,
    clock_findings,
    openrouter_findings,
    with_answers,
)
from orcost_pipeline.health.standing import is_syncing
from orcost_pipeline.health.stored import stored_findings
from orcost_pipeline.openrouter.api.requests import PATIENCE_AT_A_TERMINAL, RequestOptions
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.identity import contradiction


class Limits(NamedTuple):
    """Seconds to wait: for a round of questions to OpenRouter, for its next attempt, for a statement."""

    answer: float = ANSWER_WITHIN
    patience: float = PATIENCE_AT_A_TERMINAL
    statement: int = STATEMENT_WITHIN


LIMITS = Limits()


def examine(settings: Settings, port: int, clock: Callable[[], datetime], limits: Limits = LIMITS) -> Iterator[Finding]:
    """Every finding about the deployment, in no particular order.

    `port` is that of the web interface, `clock` this machine's, UTC. Findings from the warehouse that the files as
    they are now supersede are left out.
    """
    now = clock()
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(
            ask_all,
            settings.accounts,
            clock,
            answer_within=limits.answer,
            options=RequestOptions(patience=limits.patience),
        )
        listening = pool.submit(is_dagster, port)
        check = check_database(settings, now, limits.statement)
        answers, listens = asking.result(), listening.result()
    stored = with_answers(check.stored, settings, answers) if check.stored else None
    standings = {standing.account: standing for standing in stored.standings} if stored else {}
    yield from env_findings(settings)
    yield from muted_findings(settings)
    yield from key_findings(settings, standings)
    for answer in answers.values():
        stored_evidence = check.evidence.get(answer.account, NO_EVIDENCE)
        yield from openrouter_findings(
            answer,
            standings.get(answer.account),
            settings.alerts,
            contradiction(stored_evidence, answer.evidence),
        )
    yield from clock_findings(answers.values())
    home = [*home_findings(settings)]
    # Where nothing can be written, a sync does not help.
    is_unusable = any(it.code is Code.HOME_UNUSABLE for it in home)
    yield from (it for it in check.found if not (is_unusable and it is NO_WAREHOUSE_YET))
    of_files = [
        *mapping_findings(settings, check, now),
        *company_list_findings(settings),
        *billing_findings(settings, check),
    ]
    yield from of_files
    if stored:
        is_up = bool(listens) if is_syncing(settings) else None
        findings = stored_findings(stored, settings, now, is_up)
        replaced = superseded(of_files)
        yield from (it for it in findings if it.code not in replaced)
    yield from home
    yield from port_findings(port, listens)
