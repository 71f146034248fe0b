"""What is found of the mapping: mistakes, doubtful rules, and money without a company."""

from decimal import Decimal

import pytest

from orcost_pipeline.companies.mapping import read_mapping
from orcost_pipeline.health.finding import Code, exit_code
from orcost_pipeline.sync.attribution import load_mapping
from orcost_pipeline_tests.healthy_deployment import MAPPING, Deployment, base_url_of

pytest_plugins = ["orcost_pipeline_tests.healthy_deployment"]


def test_a_wrong_mapping_is_told_with_all_its_lines(healthy: Deployment) -> None:
    (healthy.folder / "company_mapping.csv").write_text(
        "company,match,pattern,share\nA,key_nam,x,\nB,key_name,y,99.99\n"
    )
    healthy.do(
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, error) "
        "values ('later', 'acme', now(), now(), 'succeeded', 'company_mapping.csv was refused.')"
    )
    finding = healthy.only("error", Code.MAPPING_WRONG, None)
    first, *mistakes = finding.message.splitlines()
    assert first == f"company_mapping.csv was refused; the mapping of {healthy.synced_at:%Y-%m-%d} stays active."
    assert [line[:9] for line in mistakes] == ["  line 2:", "  line 3:"]
    assert finding.todo == f"Correct it; to check it: orcost map check {healthy.folder / 'company_mapping.csv'}"


def test_what_the_last_sync_said_of_the_mapping_counts_until_the_next(healthy: Deployment) -> None:
    healthy.do(
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, error) "
        "values ('later', 'acme', now(), now(), 'succeeded', 'company_mapping.csv was refused.')"
    )
    finding = healthy.only("error", Code.MAPPING_WRONG, None)
    assert finding.todo.startswith("Correct it; to check it: orcost map check ")
    assert finding.todo.endswith(", then: orcost sync")


def test_a_mapping_that_is_gone_is_an_error(healthy: Deployment) -> None:
    (healthy.folder / "company_mapping.csv").unlink()
    assert "is gone; the mapping of" in healthy.only("error", Code.MAPPING_GONE, None).message


def test_a_mapping_that_its_author_may_not_have_meant_is_a_warning(healthy: Deployment) -> None:
    text = MAPPING + "Company D,label,z\n"
    (healthy.folder / "company_mapping.csv").write_text(text)
    bring_into_force(healthy, text)
    assert "line 5: label:z never wins" in healthy.only("warning", Code.MAPPING_DOUBTFUL, None).message


def test_a_rule_for_an_unknown_account_is_a_warning(healthy: Deployment) -> None:
    text = "company,match,pattern,account\nCompany A,key_name,*,acmee\n"
    (healthy.folder / "company_mapping.csv").write_text(text)
    bring_into_force(healthy, text)
    assert 'account "acmee" is not configured' in healthy.only("warning", Code.MAPPING_DOUBTFUL, None).message


def test_a_rule_without_any_key_for_thirty_days_is_a_warning(healthy: Deployment) -> None:
    text = MAPPING.replace("Company C,", "Company D,key_name,nobody\nCompany C,")
    (healthy.folder / "company_mapping.csv").write_text(text)
    bring_into_force(healthy, text)
    assert Code.MAPPING_DOUBTFUL not in {finding.code for finding in healthy.examine()}
    healthy.do("update ref.mapping_version set loaded_at = now() - interval '31 days'")
    message = healthy.only("warning", Code.MAPPING_DOUBTFUL, None).message
    assert "nobody matched no key in the last 30 days." in message


def test_an_edited_mapping_counts_from_the_next_sync_on(healthy: Deployment) -> None:
    (healthy.folder / "company_mapping.csv").write_text(MAPPING + "# edited\n")
    assert healthy.only("note", Code.MAPPING_PENDING, None).todo == "orcost sync"


NO_RULES = "company,match,pattern\n# Company A,key_name,Company A\n"


def without_rules(deployment: Deployment, starter: str | None) -> None:
    """Has the deployment no mapping at all, or one without rules."""
    deployment.do("update core.key_rolling set company_id = 0")
    deployment.do("truncate ref.mapping_rule, ref.mapping_version restart identity")
    (deployment.folder / "company_mapping.csv").unlink()
    if starter is not None:
        (deployment.folder / "company_mapping.csv").write_text(starter)
        bring_into_force(deployment, starter)


@pytest.mark.parametrize("starter", [None, NO_RULES])
def test_spend_without_any_rule_is_a_warning_of_status_and_doctor(healthy: Deployment, starter: str | None) -> None:
    without_rules(healthy, starter)
    finding = healthy.only("warning", Code.NO_MAPPING, None)
    assert finding.message == "There are no mapping rules; all spend is Unattributed."
    assert "orcost map suggest" in finding.todo
    assert healthy.stored_findings() == [finding]
    assert exit_code([finding]) == 0
    told = healthy.run_in_folder("status")
    assert told.returncode == 0
    assert "All is well" not in told.stdout


@pytest.mark.parametrize("starter", [None, NO_RULES])
def test_without_spend_a_missing_rule_is_a_note(healthy: Deployment, starter: str | None) -> None:
    without_rules(healthy, starter)
    healthy.do("truncate core.key_rolling, core.company_rolling")
    assert ("note", Code.NO_MAPPING, None) in healthy.said()
    assert Code.NO_MAPPING not in {it.code for it in healthy.stored_findings()}


def test_rules_that_wait_for_the_next_sync_are_told_instead_of_missing_ones(healthy: Deployment) -> None:
    without_rules(healthy, NO_RULES)
    (healthy.folder / "company_mapping.csv").write_text(MAPPING)
    healthy.only("note", Code.MAPPING_PENDING, None)
    (healthy.folder / "company_mapping.csv").write_text("company,match,pattern\nA,key_nam,x\n")
    healthy.only("error", Code.MAPPING_WRONG, None)


def test_a_machine_without_keys_tells_of_missing_rules_too(healthy: Deployment) -> None:
    without_rules(healthy, NO_RULES)
    healthy.configure(base_url_of(healthy), OPENROUTER_API_KEY_ACME="")
    assert ("warning", Code.NO_MAPPING, None) in healthy.said()


def bring_into_force(deployment: Deployment, text: str) -> None:
    load_mapping(deployment.engine, read_mapping(text.encode(), "company_mapping.csv"), deployment.clock())


def test_much_unattributed_money_is_told_with_its_keys(healthy: Deployment) -> None:
    healthy.do("update core.key_rolling set company_id = 0")
    finding = healthy.only("warning", Code.UNATTRIBUTED, "acme")
    assert finding.message == (
        "111.75 USD (100.0 %) and 3.00 USD of BYOK (100.0 %) of the last 30 days belong to no company: "
        "2 keys, and 0.25 USD without a key, which no rule can give to a company."
    )
    assert "orcost map todo" in finding.todo


@pytest.mark.parametrize(("amount", "is_told"), [("5.8", False), ("5.9", True)])
def test_five_percent_may_be_unattributed(healthy: Deployment, amount: str, is_told: bool) -> None:
    healthy.do("update core.key_rolling set credits_usd = :amount where key_id = 0", amount=Decimal(amount))
    found = healthy.examine()
    assert [it.code for it in found] == ([Code.UNATTRIBUTED] if is_told else [])
    assert all(it.todo.startswith("No rule can") for it in found)
