"""Every model that costs has a name and a price, and a price keeps all that it has."""

from decimal import Decimal

import sqlalchemy as sa

from orcost_pipeline.simulator import Ledger, Options
from orcost_pipeline.simulator.catalogue import CLAUDE, FLUX
from orcost_pipeline_tests.world import HOUR, NOON, World, usage


def world_of(engine: sa.Engine, options: Options = Options()) -> World:  # noqa: B008 (frozen)
    """A key that paid for an image."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    key = ledger.add_key("acme", "app", NOON - 40 * HOUR)
    ledger.spend("acme", NOON - 2 * HOUR, key, FLUX, usage("0.03"))
    world = World(engine, ledger, options=options)
    world.sync()
    return world


def test_a_model_that_makes_images_has_a_name_and_a_price(engine: sa.Engine) -> None:
    world = world_of(engine)
    told = world.rows(
        "select m.name, m.pricing ->> 'image_output' from core.spend_daily s "
        "join raw.model m on m.canonical_slug = s.model where s.credits_usd > 0"
    )
    assert told == [("Black Forest Labs: FLUX.2 Pro", "0.03")]


def test_a_price_keeps_its_overrides_its_longer_cache_and_its_discount_exactly(engine: sa.Engine) -> None:
    world = world_of(engine)
    (pricing,) = world.rows("select pricing from raw.model where canonical_slug = :model", model=CLAUDE)
    assert pricing[0] == {
        "prompt": "0.000003",
        "completion": "0.000015",
        "input_cache_read": "0.0000003",
        "input_cache_write": "0.00000375",
        "input_cache_write_1h": "0.000006",
        "discount": "0.1",
        "overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.000006", "completion": "0.0000225"}],
    }


def test_an_api_that_does_not_know_the_parameter_is_asked_without_it(engine: sa.Engine) -> None:
    world = world_of(engine, Options(has_output_modalities=False))
    assert [request.params for request in world.simulator.asked("/models")] == [{"output_modalities": "all"}, {}]
    assert world.value("select count(*) from raw.model") == 7
    world.assert_hours_are_true()
