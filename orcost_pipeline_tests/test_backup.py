"""`orcost db backup` and `orcost db restore`: the whole warehouse comes back, or nothing is changed."""

import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from orcost_pipeline.simulator import Simulator, serve, small
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.warehouse import backup
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.deployment import sole_deployment
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, Programs
from orcost_pipeline.warehouse.questions.rights import undue_rights
from orcost_pipeline.warehouse.runs import sync_lock
from orcost_pipeline.warehouse.schema.namespaces import SCHEMAS
from orcost_pipeline_tests.conftest import fresh_database
from orcost_pipeline_tests.processes import Project, away_from_the_hour, clean_environment
from orcost_pipeline_tests.world import usage

MAPPINGS = ("company,match,pattern\nA,key_name,Company A\n", "company,match,pattern\nA,key_name,*\n")
ANSWERS = (
    *(("report", "--period", "30d", "--by", by, "--format", "json") for by in ("company", "key", "model", "creator")),
    ("report", "--month", f"{datetime.now(UTC):%Y-%m}", "--format", "json"),
    ("reconcile", "--format", "json"),
    ("map", "log", "--format", "json"),
    ("map", "diff", "--format", "json"),
    ("keys", "--history", "--format", "json"),
    ("accounts", "--format", "json"),
)


@contextmanager
def project(folder: Path, url: str | None) -> Iterator[Project]:
    """A folder with a mapping and an account, at a database of a URL or at an embedded one of its own."""
    ledger = small(datetime.now(UTC))
    simulator = Simulator(ledger)
    with serve(simulator) as base_url:
        variables = {"OPENROUTER_BASE_URL": base_url, "ORCOST_HOME": str(folder / "home")}
        variables["OPENROUTER_API_KEY"] = ledger.accounts["acme"].management_key
        if url:
            variables["ORCOST_DATABASE_URL"] = url
        engine = connect(url or EmbeddedPostgres(folder / "home").start())
        yield Project(folder, engine, ledger, {**clean_environment(), **variables}, simulator)
        engine.dispose()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the account of the embedded Postgres can reach; its servers end with it."""
    made = Path(tempfile.mkdtemp(prefix="orcost-backup-"))
    made.chmod(0o755)
    yield made
    for home in (made / "home", made / "new"):
        EmbeddedPostgres(home).stop()
    shutil.rmtree(made, ignore_errors=True)


def live(site: Project) -> None:
    """Several syncs: two mappings, a renamed key, spend in between."""
    first, *_ = site.ledger.accounts["acme"].keys
    for mapping in MAPPINGS:
        (site.folder / "company_mapping.csv").write_text(mapping)
        assert site.orcost("sync").returncode == 0
        now = datetime.now(UTC)
        site.ledger.rename("acme", first, f"Renamed {uuid.uuid4().hex[:4]}", now)
        site.ledger.spend("acme", now - timedelta(minutes=5), first, GPT, usage("1.25"))


def answers(site: Project, **environment: str) -> list[str]:
    told = [site.orcost(*command, **environment) for command in ANSWERS]
    assert all(it.stdout.strip() for it in told), [it.stderr for it in told]
    return [it.stdout for it in told]


@pytest.mark.slow
def test_a_restored_home_answers_alike_and_its_next_sync_goes_on(place: Path) -> None:
    away_from_the_hour(120)
    with project(place, None) as site:
        live(site)
        before = answers(site)
        done = site.orcost("db", "backup", "costs.dump")
        assert (done.returncode, done.stderr) == (0, "")
        assert stat.S_IMODE((place / "costs.dump").stat().st_mode) == 0o600
        new = {"ORCOST_HOME": str(place / "new")}
        done = site.orcost("db", "restore", "costs.dump", **new)
        assert (done.returncode, done.stdout) == (0, "Restored from costs.dump. Next: orcost sync\n"), done.stderr
        assert answers(site, **new) == before
        requests = len(site.simulator.requests)
        done = site.orcost("sync", **new)
        assert done.returncode == 0
        assert "for the first time" not in done.stderr
        assert len(site.simulator.requests) - requests < 40, "it read everything again"


@pytest.fixture
def site(postgres_url: str, tmp_path: Path) -> Iterator[Project]:
    """A warehouse with one sync, on a server of one's own."""
    with fresh_database(postgres_url) as url, project(tmp_path, url) as made:
        (tmp_path / "company_mapping.csv").write_text(MAPPINGS[0])
        assert made.orcost("sync").returncode == 0
        yield made


def contents(site: Project) -> list[tuple[object, ...]]:
    """What is stored, and as which tables: a relation made anew has another id."""
    return site.rows(
        "select 'marts.company_spend_daily'::regclass::oid::text, (select count(*)::text from ops.sync_run), "
        "(select sum(credits_usd)::text from core.spend_daily)"
    )


@pytest.mark.slow
def test_a_warehouse_with_accounts_is_replaced_only_if_asked_and_rights_are_kept(site: Project) -> None:
    reader = f"reader_{uuid.uuid4().hex}"
    with site.engine.begin() as connection:
        connection.exec_driver_sql(f"create role {reader}; grant usage on schema marts to {reader}")
        connection.exec_driver_sql(f"grant select on marts.company_spend_daily to {reader}")
    try:
        assert site.orcost("db", "backup", "costs.dump").returncode == 0
        (runs_before,) = site.rows("select count(*) from ops.sync_run")
        assert site.orcost("sync").returncode == 0
        before = contents(site)
        refused = site.orcost("db", "restore", "costs.dump")
        assert refused.returncode == 1
        assert refused.stderr == (
            "This database has a warehouse with accounts already. Nothing was changed.\n"
            "To replace it by the backup: orcost db restore --replace FILE"
        )
        assert contents(site) == before
        done = site.orcost("db", "restore", "--replace", "costs.dump")
        assert (done.returncode, done.stderr) == (0, "")
        assert site.rows("select count(*) from ops.sync_run") == [runs_before]
        granted = f"select has_table_privilege('{reader}', 'marts.company_spend_daily', 'select')"
        assert site.rows(granted) == [(True,)]
    finally:
        with site.engine.begin() as connection:
            connection.exec_driver_sql(f"drop owned by {reader}; drop role {reader}")


@pytest.mark.slow
def test_readers_and_viewers_have_the_same_rights_in_a_restored_warehouse(site: Project) -> None:
    reader, viewer = (f"l_{uuid.uuid4().hex}" for _ in range(2))
    at, options = site.engine.url, {"autocommit": True}
    passwords = {reader: site.orcost("access", "reader", reader).stdout.strip()}
    passwords[viewer] = site.orcost("access", "viewer", viewer, "--company", "A").stdout.strip()
    try:
        assert site.orcost("db", "backup", "costs.dump").returncode == 0
        assert site.orcost("access", "viewer", viewer, "--company", "A").returncode == 0
        assert site.orcost("db", "restore", "--replace", "costs.dump").returncode == 0
        with site.engine.connect() as connection:
            assert undue_rights(connection).rows == []
        for login, relation in ((reader, "marts.spend_daily"), (viewer, "viewer.spend_daily")):
            server = {"host": at.host, "port": at.port, "dbname": at.database}
            with psycopg.connect(**server, user=login, password=passwords[login], **options) as session:
                assert session.execute(f"select count(*) > 0 from {relation}".encode()).fetchone() == (True,)
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute("select from core.usage_daily")
    finally:
        for login in (reader, viewer):
            assert site.orcost("access", "revoke", login).returncode == 0


@pytest.mark.slow
def test_roles_that_the_server_lacks_are_named_and_all_else_is_restored(site: Project) -> None:
    reader = f"reader_{uuid.uuid4().hex}"
    with site.engine.begin() as connection:
        connection.exec_driver_sql(f"create role {reader}; grant select on marts.company_spend_daily to {reader}")
    assert site.orcost("db", "backup", "costs.dump").returncode == 0
    with site.engine.begin() as connection:
        connection.exec_driver_sql(f"drop owned by {reader}; drop role {reader}")
    done = site.orcost("db", "restore", "--replace", "costs.dump")
    assert done.returncode == 0
    assert done.stderr == f"Rights of roles that this server does not have were left out: {reader}.\n"
    assert site.rows("select status from ops.sync_run") == [("succeeded",)]


@pytest.mark.slow
def test_what_uses_the_warehouse_is_not_pulled_away_from_under_it(site: Project) -> None:
    assert site.orcost("db", "backup", "costs.dump").returncode == 0
    before = contents(site)
    with site.engine.begin() as connection:
        connection.exec_driver_sql("create schema bi; create view bi.costs as select * from marts.company_spend_daily")
    told = "What was built on the warehouse would be dropped with it: view bi.costs. Nothing was changed."
    assert told in site.orcost("db", "restore", "--replace", "costs.dump").stderr
    with site.engine.begin() as connection:
        connection.exec_driver_sql("drop schema bi cascade")
    with sole_deployment(site.engine, "process 1 on here"):
        told = "An orcost up serves this database: process 1 on here. Nothing was changed. Stop it first."
        assert site.orcost("db", "restore", "--replace", "costs.dump").stderr == told
        assert site.orcost("db", "backup", "meanwhile.dump").returncode == 0
    with sync_lock(site.engine, "acme"):
        told = "A sync of this warehouse is running. Nothing was changed. Try again when it is over."
        assert site.orcost("db", "restore", "--replace", "costs.dump").stderr == told
    assert contents(site) == before


@pytest.mark.slow
def test_a_failed_restoration_changes_nothing(site: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.orcost("db", "backup", "costs.dump").returncode == 0
    before = contents(site)
    whole = (site.folder / "costs.dump").read_bytes()
    (site.folder / "cut.dump").write_bytes(whole[: len(whole) * 9 // 10])
    refused = site.orcost("db", "restore", "--replace", "cut.dump")
    assert refused.returncode == 1
    assert "Nothing was changed." in refused.stderr
    assert contents(site) == before
    (site.folder / "text.dump").write_text("no dump")
    refused = site.orcost("db", "restore", "--replace", "text.dump")
    assert refused.stderr.startswith("text.dump cannot be restored: pg_restore failed: ")
    monkeypatch.setattr(backup, "SCHEMA_VERSION", "0000")
    assert " is of a newer program (schema " in site.orcost("db", "restore", "--replace", "costs.dump").stderr
    assert contents(site) == before
    assert site.orcost("db", "restore", "nowhere.dump").stderr == "There is no file nowhere.dump."


def test_a_backup_is_written_whole_or_not_at_all(site: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.folder / "costs.dump").write_text("the one of yesterday")
    with monkeypatch.context() as patch:
        patch.setattr(backup, "SCHEMAS", ("nowhere",))
        refused = site.orcost("db", "backup", "costs.dump")
    assert refused.stderr == "pg_dump failed: no matching schemas were found."
    assert (site.folder / "costs.dump").read_text() == "the one of yesterday"
    assert not list(site.folder.glob("costs.dump?*"))
    refused = site.orcost("db", "backup", "nowhere/costs.dump")
    assert refused.stderr == "nowhere/costs.dump cannot be written (No such file or directory)."


@pytest.mark.slow
def test_without_programs_of_the_servers_version_the_command_is_told_without_the_password(
    site: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Programs, "installed", lambda program: iter([Programs(Path("/usr/bin"), "9.6.1", 9, False)]))
    url = site.engine.url
    address = f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}"
    refused = site.orcost("db", "backup", "costs.dump")
    assert refused.returncode == 1
    assert "is not installed here (installed: 9.6.1). Install it, or run where it is:\npg_dump " in refused.stderr
    assert f"--dbname='{address}' --file=FILE" in refused.stderr
    assert str(url.password) not in refused.stderr


def test_the_schemas_that_are_replaced_are_all_of_ours() -> None:
    dropped = backup.statement("backup", "replace").text
    assert f"drop schema if exists {', '.join(SCHEMAS)} cascade;" in dropped


def test_a_password_with_signs_of_the_password_file_is_found(empty_url: str) -> None:
    role, password = f"r_{uuid.uuid4().hex}", "a:b\\c'd é"
    with psycopg.connect(empty_url, autocommit=True) as admin:
        admin.execute(f"create role {role} login".encode())
        admin.execute(psycopg.sql.SQL("alter role {} password {}").format(psycopg.sql.Identifier(role), password))
        engine = connect(sa.make_url(empty_url).set(username=role, password=password).render_as_string(False))
        try:
            with backup._programs(engine, "pg_dump") as programs:
                assert password not in programs.address
                assert programs.run("psql", "--dbname", programs.address, "-Atc", "select 7") == b"7\n"
        finally:
            engine.dispose()
            admin.execute(f"drop role {role}".encode())
