"""Accounts of one warehouse are strangers: none waits for another's publication, breaks it, or loses by its clock."""

import threading
from decimal import Decimal

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, MISTRAL
from orcost_pipeline.sync import steps
from orcost_pipeline.warehouse.publication import Publication
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, after_step, usage

MODELS = {"acme": (GPT, CLAUDE, MISTRAL), "globex": (MISTRAL, CLAUDE, GPT)}


@pytest.fixture
def worlds(engine: sa.Engine) -> dict[str, World]:
    """Two accounts with thousands of rows each, of the same models met in another order; nothing is synced yet."""
    ledger = Ledger()
    for account, models in MODELS.items():
        ledger.add_account(account, credits_bought=Decimal(900))
        key = ledger.add_key(account, "app", NOON - 60 * DAY)
        for hours in range(1, 700):
            for model in models:
                ledger.spend(account, NOON - hours * HOUR, key, model, usage("0.01"))
    made = {}
    for account in MODELS:
        made[account] = World(engine, ledger, account=account)
        key = SecretStr(ledger.accounts[account].management_key)
        made[account].configured = made[account].configured.model_copy(update={"name": account, "api_key": key})
    made["acme"].map("A,key_name,app,,,50", "B,key_name,app,,,50")
    return made


@pytest.mark.slow
def test_a_first_publication_waits_for_no_other_account(
    worlds: dict[str, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """New models, providers, companies, keys and statistics: each was a reason to wait, or for a deadlock."""
    is_held, may_go = threading.Event(), threading.Event()

    def held(publishing: Publication) -> None:
        if publishing.account == "acme":
            is_held.set()
            assert may_go.wait(60)

    after_step("settled_days_sum_to_activity", monkeypatch, held)
    acme, globex = (worlds[account].step() for account in MODELS)
    worlds["acme"].read(acme)
    worlds["globex"].read(globex)
    first = threading.Thread(target=steps.publish_account, args=(acme,))
    second = threading.Thread(target=steps.publish_account, args=(globex,))
    first.start()
    try:
        assert is_held.wait(60)
        second.start()
        second.join(60)
        assert not second.is_alive(), "it waits for the other account's end"
        assert worlds["globex"].rows("select account from ref.account where as_of is not null") == [("globex",)]
    finally:
        may_go.set()
        first.join(60)
        second.join(60)
    for world in worlds.values():
        world.assert_hours_are_true()
        world.assert_days_are_true()


@pytest.mark.slow
def test_the_clock_of_one_account_drops_nothing_that_was_read_of_another(worlds: dict[str, World]) -> None:
    acme, globex = worlds["acme"], worlds["globex"]
    acme.sync()
    read = "select count(*) from raw.usage_hourly where account = 'acme'"
    before = acme.value(read)
    assert before > 1_000
    globex.later(days=60).sync()
    assert acme.value(read) == before
