"""The sensor that sends alerts."""

from collections.abc import Callable

import dagster as dg

from orcost_pipeline.alerts.look import Look, look
from orcost_pipeline.alerts.receivers import receivers
from orcost_pipeline.alerts.selection import seen, unusable_settings
from orcost_pipeline.defs.automation import served_elsewhere
from orcost_pipeline.defs.resources import Surroundings, opened_warehouse
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import plural


def alert_sensor(current: Callable[[], Settings]) -> dg.SensorDefinition:
    """The sensor that looks at stored facts and the project's files once a minute, and sends what is new or resolved.

    `current` returns the settings as the files are now; where it raises an OrcostError, that is a finding.
    """

    @dg.sensor(
        name="alert_sensor",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"orcost", "orcost_surroundings"},
        description="Sends each finding once to ORCOST_ALERT_URLS when it appears, and once when it is gone. "
        "OpenRouter is asked nothing; what was sent is in ops.alert.",
    )
    def alert_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        known: Settings = context.resources.orcost
        if skipped := served_elsewhere(known):
            return skipped
        around: Surroundings = context.resources.orcost_surroundings
        now = around.clock()
        try:
            settings, wrong = current(), []
        except OrcostError as error:
            # What else is wrong is judged by the settings that were valid last.
            settings, wrong = known, [unusable_settings(error)]
        with opened_warehouse(known) as engine:
            with engine.connect() as connection:
                found = seen(connection, settings, now, wrong)
            done = look(engine, found, receivers(settings.alert_urls), now, ui_url=settings.alerts.ui_url)
        return dg.SkipReason(summary(done))

    return alert_sensor


def summary(done: Look | None) -> str:
    """What a look did, in one sentence for Dagster's list of ticks."""
    if done is None:
        return "Another process is looking."
    if not any(done):
        return "Nothing is new."
    what = f"{plural(done.opened, 'alert')} opened, {done.resolved} resolved; {plural(done.sent, 'message')} sent"
    return f"{what}, {done.failed} failed." if done.failed else f"{what}."
