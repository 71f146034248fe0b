"""What the sensor sends of a deployment's life: failures of a real sync, at a real webhook."""

import pytest
from pydantic import SecretStr

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.project_file import AlertsConfig
from orcost_pipeline.simulator import Fault
from orcost_pipeline_tests.watched import A_AND_REST, Watched, titles
from orcost_pipeline_tests.webhook import Webhook

pytest_plugins = ["orcost_pipeline_tests.watched"]


@pytest.mark.slow
def test_a_healthy_deployment_sends_nothing(watched: Watched) -> None:
    assert watched.looks() == []


@pytest.mark.slow
@pytest.mark.parametrize("hours", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_a_revoked_key_is_one_message_and_one_recovery(watched: Watched, hours: int) -> None:
    key = watched.acme.settings.accounts[0].api_key
    assert key is not None
    watched.acme.simulator.inject(Fault("401", times=None))
    asked: list[int] = []
    for hour in range(hours):
        before = watched.acme.simulator.count
        assert not watched.sync(minutes=58)
        asked.append(watched.acme.simulator.count - before)
        posted = watched.looks(2)
        assert len(posted) == (1 if hour == 0 else 0), (hour, titles(posted))
        if posted:
            (refused,) = posted
            assert refused.title.startswith("orcost: acme: ")
            assert refused.type == "failure"
            assert "orcost init" in refused.message
            assert key.get_secret_value() not in refused.message
    assert max(asked) == 1, "a key that is refused is asked once an hour"
    watched.acme.simulator.clear_faults()
    assert watched.sync(minutes=58)
    (recovered,) = watched.looks()
    assert (recovered.type, "resolved" in recovered.message) == ("success", True)


@pytest.mark.slow
def test_an_outage_is_told_once_the_data_is_old_and_with_the_last_error(watched: Watched) -> None:
    assert not watched.sync(Fault("503", times=None), minutes=50)
    assert watched.looks() == [], "it heals by itself"
    assert not watched.sync(minutes=50)
    assert watched.looks() == []
    assert not watched.sync(minutes=50)
    (stale,) = watched.looks()
    assert stale.title.startswith("orcost: acme: Costs are complete to ")
    assert stale.title.endswith(" UTC only.")
    assert "The last sync said:" in stale.message
    assert 'GET /key of account "acme" answered 503' in stale.message
    watched.acme.simulator.clear_faults()
    assert watched.sync(minutes=10)
    assert [it.type for it in watched.looks()] == ["success"]


@pytest.mark.slow
def test_how_old_data_may_be_is_a_setting(watched: Watched) -> None:
    watched.change(alerts=AlertsConfig(stale_after_hours=5))
    watched.acme.clock.later(hours=4.9)
    assert watched.looks() == []
    watched.acme.clock.later(minutes=10)
    assert len(watched.looks()) == 1


@pytest.mark.slow
def test_a_wrong_mapping_is_told_within_a_look_of_its_edit_and_when_it_is_mended(watched: Watched) -> None:
    watched.acme.settings.mapping.path.write_text("company,match,pattern\nA,nonsense,*\n", encoding="utf-8")
    (wrong,) = watched.look()
    today = f"{watched.acme.clock.now:%Y-%m-%d}"
    assert wrong.title == f"orcost: deployment: company_mapping.csv was refused; the mapping of {today} stays active."
    assert "line 2" in wrong.message
    assert watched.sync(minutes=50), "costs keep loading"
    assert watched.looks() == [], "what the sync said of it is no second finding"
    watched.acme.settings.mapping.path.write_text(A_AND_REST, encoding="utf-8")
    assert [it.type for it in watched.looks()] == ["success"]


@pytest.mark.slow
def test_settings_that_cannot_be_read_are_told(watched: Watched) -> None:
    watched.wrong = [PermanentError('orcost.toml, line 3: there is no "acount"; did you mean "accounts"?')]
    (wrong,) = watched.looks()
    assert wrong.title == 'orcost: deployment: orcost.toml, line 3: there is no "acount"; did you mean "accounts"?'
    watched.wrong = []
    assert [it.type for it in watched.looks()] == ["success"]


def test_settings_that_cannot_be_read_resolve_nothing_else(watched: Watched) -> None:
    watched.acme.simulator.inject(Fault("401", times=None))
    assert not watched.sync(minutes=58)
    assert len(watched.look()) == 1
    watched.wrong = [PermanentError("orcost.toml is not valid TOML.")]
    assert titles(watched.looks()) == ["orcost: deployment: orcost.toml is not valid TOML."]
    watched.wrong = []
    assert [it.title for it in watched.looks()] == ["orcost: deployment: resolved: orcost.toml is not valid TOML."]


@pytest.mark.slow
def test_severity_and_mute_decide_what_is_sent(watched: Watched) -> None:
    watched.acme.settings.mapping.path.write_text("company,match,pattern\nA,key_name,nothing\n", encoding="utf-8")
    assert watched.sync(minutes=10)
    watched.change(alerts=AlertsConfig(severity="error"))
    assert watched.looks() == []
    watched.change(alerts=AlertsConfig(mute=("unattributed", "mapping_doubtful", "key_unassigned")))
    assert watched.looks() == []
    assert watched.acme.value("select count(*) from ops.alert") == 0, "no row either"
    watched.change(alerts=AlertsConfig(mute=("mapping_doubtful",)))
    assert any("belong to no company" in it.message for it in watched.looks())


def test_a_code_that_no_finding_has_is_told_instead_of_muting_nothing(watched: Watched) -> None:
    watched.change(alerts=AlertsConfig(mute=("unatributed",)))
    (told,) = watched.looks()
    assert told.message.startswith("orcost.toml mutes unknown finding codes: unatributed.")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sync", "reattribute", "failed"])
def test_the_heartbeat_follows_each_sync_that_succeeded(watched: Watched, how: str) -> None:
    with Webhook() as outside:
        url = f"http://127.0.0.1:{outside.port}/ping/s3cret/{{account}}?a={{account}}"
        watched.change(heartbeat_url=SecretStr(url))
        if how == "reattribute":
            assert watched.acme.run(job="reattribute").success
        elif how == "failed":
            assert not watched.sync(Fault("503", times=None), minutes=5)
        else:
            assert watched.sync(minutes=5)
        assert outside.fetched == (["/ping/s3cret/acme?a=acme"] if how == "sync" else [])


@pytest.mark.slow
def test_a_heartbeat_that_is_not_received_fails_no_sync_and_names_no_secret(
    watched: Watched, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    watched.change(heartbeat_url=SecretStr("http://127.0.0.1:1/s3cret"))
    assert watched.sync(minutes=5)
    told = capfd.readouterr()
    assert "s3cret" not in caplog.text + told.out + told.err
