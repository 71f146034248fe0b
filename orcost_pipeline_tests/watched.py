"""A deployment whose alerts go to a webhook on a real port, and the sensor that sends them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.defs.alerts import alert_sensor
from orcost_pipeline.settings import Settings
from orcost_pipeline.simulator import Fault
from orcost_pipeline_tests.conftest import fresh_database
from orcost_pipeline_tests.dagster_deployment import Deployment, deployed
from orcost_pipeline_tests.webhook import Posted, Webhook

A_AND_REST = "company,match,pattern\nA,key_name,*\n"


@dataclass
class Watched:
    """A deployment, the webhook of its alerts, and the sensor, evaluated as Dagster does it."""

    acme: Deployment
    webhook: Webhook
    wrong: list[Exception] = field(default_factory=list)

    def settings(self) -> Settings:
        if self.wrong:
            raise self.wrong[0]
        return self.acme.settings

    def look(self) -> list[Posted]:
        """One tick, a minute later; what was sent."""
        self.acme.clock.later(minutes=1)
        asked = self.acme.simulator.count
        with dg.build_sensor_context(instance=self.acme.instance, resources=self.acme.resources) as context:
            told = alert_sensor(self.settings).evaluate_tick(context)
        assert not told.run_requests
        assert self.acme.simulator.count == asked, "OpenRouter is asked nothing"
        return self.webhook.taken()

    def looks(self, count: int = 3) -> list[Posted]:
        return [posted for _ in range(count) for posted in self.look()]

    def change(self, **changed: Any) -> None:
        self.acme.settings = self.acme.settings.model_copy(update=changed)

    def sync(self, *faults: Fault, **later: float) -> bool:
        self.acme.clock.later(**later)
        self.acme.simulator.inject(*faults)
        return self.acme.run().success


@pytest.fixture(scope="session")
def mapped_template(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a database in which a run has just synced `acme` with a mapping."""
    with fresh_database(postgres_url) as url:
        with deployed(url, tmp_path_factory.mktemp("template")) as acme:
            acme.settings.mapping.path.write_text(A_AND_REST, encoding="utf-8")
            assert acme.run().success
        yield sa.make_url(url).database or ""


@pytest.fixture
def watched(postgres_url: str, mapped_template: str, tmp_path: Path) -> Iterator[Watched]:
    with (
        fresh_database(postgres_url, mapped_template) as url,
        deployed(url, tmp_path) as acme,
        Webhook() as webhook,
    ):
        acme.settings.mapping.path.write_text(A_AND_REST, encoding="utf-8")
        it = Watched(acme, webhook)
        it.change(alert_urls=SecretStr(webhook.url))
        yield it


def titles(posted: list[Posted]) -> list[str]:
    return [it.title for it in posted]
