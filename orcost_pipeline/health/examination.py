"""The whole examination of a deployment: OpenRouter, the database and this machine asked at the same time.

It mends nothing: it neither migrates nor makes a first, empty database (one that is there already is started).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from orcost_pipeline.health.database import NO_WAREHOUSE_YET, look_into
from orcost_pipeline.health.finding import Code, Finding
from orcost_pipeline.health.machine import is_dagster, of_env, of_home, of_keys, of_port
from orcost_pipeline.health.mapping import of_companies, of_mapping, superseded
from orcost_pipeline.health.openrouter import NOTHING_TOLD, ask_all, of_answer, of_clock, with_answers
from orcost_pipeline.health.standing import is_syncing
from orcost_pipeline.health.stored import of_stored
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.identity import contradiction


def examine(settings: Settings, port: int, clock: Callable[[], datetime]) -> Iterator[Finding]:
    """Every finding there is."""
    now = clock()
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask_all, settings.accounts, clock)
        listening = pool.submit(is_dagster, port)
        look = look_into(settings, now)
        answers, listens = asking.result(), listening.result()
    stored = with_answers(look.stored, settings, answers) if look.stored else None
    standings = {standing.account: standing for standing in stored.standings} if stored else {}
    yield from of_env(settings)
    yield from of_keys(settings, standings)
    for answer in answers.values():
        stored_evidence = look.evidence.get(answer.account, NOTHING_TOLD)
        yield from of_answer(answer, standings.get(answer.account), contradiction(stored_evidence, answer.told))
    yield from of_clock(answers.values())
    home = [*of_home(settings)]
    # Where nothing can be written, a sync is no help.
    is_unusable = any(it.code is Code.HOME_UNUSABLE for it in home)
    yield from (it for it in look.found if not (is_unusable and it is NO_WAREHOUSE_YET))
    mapping = [*of_mapping(settings, look, now), *of_companies(settings)]
    yield from mapping
    if stored:
        is_up = bool(listens) if is_syncing(settings) else None
        told = of_stored(stored, settings, now, is_up)
        replaced = superseded(mapping)
        yield from (it for it in told if it.code not in replaced)
    yield from home
    yield from of_port(port, listens)
