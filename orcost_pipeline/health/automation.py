"""Findings from Dagster's own tables: causes of missing hourly syncs. They are found without any daemon."""

from collections.abc import Iterator

from orcost_pipeline.formats import length
from orcost_pipeline.health.finding import Code, Finding, Severity
from orcost_pipeline.text import plural
from orcost_pipeline.warehouse.questions.health import RUN_WAITS, Automation, Unserved

SENSOR_DAEMON = "SENSOR"
DAEMONS = frozenset({"SCHEDULER", SENSOR_DAEMON, "QUEUED_RUN_COORDINATOR"})
_SWITCH_ON = "Switch it on in Dagster (Automation), or restart orcost up, which does so"
_RESTART = "Restart orcost up where the deployment runs (its log: .orcost/logs/services.log)"
_LACKING = {
    "hourly_schedule": "no hourly sync starts",
    "mapping_change_sensor": "a changed mapping waits",
    "alert_sensor": "no alert is sent",
    "sync_request_sensor": "Sync Now does nothing",
    "housekeeping_sensor": "no old data is removed",
    "SCHEDULER": "no hourly sync starts",
    SENSOR_DAEMON: "Sync Now does nothing, and no alert is sent",
    "QUEUED_RUN_COORDINATOR": "runs stay in the queue",
}


def automation_findings(automation: Automation) -> Iterator[Finding]:
    """A finding for each schedule or sensor that is stopped and each daemon that is silent, and one for runs that are
    not launched, with the name as subject."""
    for name in automation.stopped:
        message = f"{name} is switched off in Dagster: {_LACKING.get(name, 'its work is paused')}."
        yield Finding(Severity.WARNING, Code.SCHEDULE_OFF, None, message, _SWITCH_ON, subject=name)
    for it in automation.unserved:
        if it.state == "silent":
            message = f"Dagster's daemon ({it.name}) has stopped sending heartbeats: {_LACKING[it.name]}."
            yield Finding(Severity.WARNING, Code.SCHEDULE_OFF, None, message, _RESTART, it.since, it.name)
    for state, subject in (("queued", "run queue"), ("retry", "run retries")):
        if waiting := [it for it in automation.unserved if it.state == state]:
            yield _waiting_finding(waiting, subject)


def _waiting_finding(waiting: list[Unserved], subject: str) -> Finding:
    what, was = plural(len(waiting), "run"), "was" if len(waiting) == 1 else "were"
    within = length(RUN_WAITS)
    message = (
        f"{what} in Dagster's queue {was} not started within {within}."
        if subject == "run queue"
        else f"{what} failed and {was} not retried within {within}."
    )
    return Finding(Severity.WARNING, Code.SCHEDULE_OFF, None, message, _RESTART, waiting[0].since, subject)
