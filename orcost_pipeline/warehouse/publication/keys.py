"""Steps of the account's keys: who may hold them, the keys as listed, their versions; and what could not be read."""

from orcost_pipeline.warehouse import accounts
from orcost_pipeline.warehouse.publication.step import Change, Computation, Merge, Staging
from orcost_pipeline.warehouse.publication.transaction import Publication, When
from orcost_pipeline.warehouse.questions.extracted import extracted_account, extracted_keys


def _require_only_holder(publishing: Publication) -> None:
    """Raises AccountTwiceError where another account has any of the keys that are listed."""
    connection, account, extraction_id = publishing.connection, publishing.account, publishing.extraction_id
    keys = [key.key_hash for key in extracted_keys(connection, account, extraction_id)]
    accounts.lock_new_keys(connection, account, extraction_id)
    is_managed = extracted_account(connection, account, extraction_id).is_management_key
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
