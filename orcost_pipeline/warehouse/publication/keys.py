"""Steps of the account's keys: who may hold them, the keys as listed, their versions; and what could not be read."""

import sqlalchemy as sa

from orcost_pipeline.warehouse import accounts
from orcost_pipeline.warehouse.publication.step import Change, Computation, Merge, Staging
from orcost_pipeline.warehouse.publication.transaction import Publication, When

_LISTED = "select key_hash from raw.api_key where run_id = :extraction_id and account = :account and not is_deleted"
_IS_MANAGED = "select is_management_key from raw.account where run_id = :extraction_id and account = :account"


def _require_only_holder(publishing: Publication) -> None:
    """Raises AccountTwiceError where another account has any of the keys that are listed."""
    connection, account = publishing.connection, publishing.account
    keys = connection.execute(sa.text(_LISTED), publishing.parameters).scalars().all()
    accounts.lock_new_keys(connection, account, publishing.extraction_id)
    is_managed = connection.execute(sa.text(_IS_MANAGED), publishing.parameters).scalar_one()
    accounts.require_only_holder(connection, account, keys, "Nothing was published", is_managed=is_managed)


HOLDER = (
    Computation(
        name="only_holder",
        reads=("raw.account", "raw.api_key", "ref.account", "core.api_key", "core.api_key_version"),
        when=When.EXTRACTION,
        compute=_require_only_holder,
    ),
)

_VERSION = "core.api_key_version"

KEYS = (
    Staging(
        name="api_key",
        reads=("raw.api_key", "core.api_key"),
        when=When.EXTRACTION,
        makes="staged_api_key",
        merge=Merge(into="core.api_key", keys=("account_id", "key_hash"), within=None),
    ),
    Staging(
        name="api_key_version",
        reads=("raw.api_key", "raw.workspace", "raw.organization_member", "core.api_key", _VERSION),
        when=When.EXTRACTION,
        makes="staged_api_key_version",
    ),
    Change(name="replace_version", reads=("staged_api_key_version",), when=When.EXTRACTION, writes=(_VERSION,)),
    Change(name="end_version", reads=("staged_api_key_version",), when=When.EXTRACTION, writes=(_VERSION,)),
    Change(
        name="begin_version",
        reads=("staged_api_key_version",),
        when=When.EXTRACTION,
        writes=(_VERSION,),
        counts=_VERSION,
    ),
)

_UNREADABLE = ("relation", "endpoint", "key_id", "field", "grain", "at")

UNREADABLE = (
    Staging(
        name="reread_row",
        reads=("raw.extracted", "raw.usage_question", "core.api_key", "core.unreadable_row"),
        when=When.EXTRACTION,
        makes="reread_row",
    ),
    Staging(
        name="unreadable_row",
        reads=("raw.unreadable", "core.api_key", "core.unreadable_row", "reread_row"),
        when=When.EXTRACTION,
        makes="staged_unreadable_row",
        merge=Merge(
            into="core.unreadable_row",
            keys=("account_id", *_UNREADABLE),
            within=("(t.relation, t.endpoint, t.key_id, t.field, t.grain, t.at) in (select * from reread_row)",),
        ),
    ),
)
