"""Whose account a key is: whether what OpenRouter tells it can be of the account that is stored under a name.

Belongs here: what counts as proof and as contradiction, and the sentences that refuse. No Dagster. A hash is the
identity of a key, so that one key in common proves the account; without one, whatever contradicts comes first.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import sqlalchemy as sa

from orcost_pipeline.errors import OtherAccountError
from orcost_pipeline.openrouter.records import ApiKey, Credits
from orcost_pipeline.settings import Account
from orcost_pipeline.text import short
from orcost_pipeline.warehouse import accounts
from orcost_pipeline.warehouse.questions.accounts import Evidence, stored_evidence

# Credits are restated by less than this.
CREDITS_TOLERANCE_USD = Decimal("0.01")


def told_evidence(
    keys: Sequence[ApiKey],
    workspaces: Iterable[str],
    organization_id: str | None,
    bought: Credits | None,
    *,
    is_whole: bool = True,
) -> Evidence:
    """What a key's answers say of the account that it belongs to; not whole where keys may be missing among them."""
    return Evidence(
        keys=frozenset(key.hash for key in keys),
        workspaces=frozenset(workspaces) | frozenset(key.workspace_id for key in keys if key.workspace_id),
        organization_id=organization_id,
        credits_total_usd=bought.total_credits if bought else None,
        credits_used_usd=bought.total_usage if bought else None,
        is_whole=is_whole,
    )


def require_same_account(
    connection: sa.Connection, account: Account, told: Evidence, nothing: str, *, is_managed: bool
) -> None:
    """Raises OtherAccountError where the key is not of the account that is stored, AccountTwiceError where another
    account has its keys; `nothing` says what was not done ("Nothing was published")."""
    stored = stored_evidence(connection, account.name)
    if contradicting := contradiction(stored, told):
        raise OtherAccountError(_refusal(account, stored, told, contradicting, nothing))
    accounts.require_only_holder(connection, account.name, told.keys, nothing, is_managed=is_managed)


def contradiction(stored: Evidence, told: Evidence) -> str | None:
    """Why what is told cannot be of the account that is stored, as a clause; None where it can.

    A rebuild mends a ledger that another key went into: what that key made seem deleted proves the account as well.
    """
    if stored.is_confirmed:
        return None
    proof = stored.keys | stored.deleted if stored.is_rebuild_requested else stored.keys
    if proof & told.keys:
        return None
    if stored.organization_id and told.organization_id:
        if stored.organization_id == told.organization_id:
            return None
        return (
            f"it is of organization {short(told.organization_id)}, what is stored is of {short(stored.organization_id)}"
        )
    if contradicting := _credits(stored, told):
        return contradicting
    # All keys may have been rotated at once, and one that is stored may be where this key is told nothing.
    return None if stored.workspaces & told.workspaces or not told.is_whole else _strangers(stored, told)


def _strangers(stored: Evidence, told: Evidence) -> str | None:
    """That nothing stored is listed now, where something could be."""
    keys, workspaces = _count(len(stored.keys), "key"), _count(len(stored.workspaces), "workspace")
    listed = f"{_count(len(told.keys), 'key')} in {_count(len(told.workspaces), 'workspace')}"
    if stored.workspaces and told.workspaces:
        return f"none of its {keys} and {workspaces} is among what OpenRouter lists now ({listed})"
    if stored.keys and told.keys:
        return f"none of its {keys} is among what OpenRouter lists now ({listed})"
    # Where nothing is listed at all, only the credits that were bought tell accounts apart.
    before, now = stored.credits_total_usd, told.credits_total_usd
    if stored.keys and not told.workspaces and None not in (before, now) and before != now:
        return f"none of its {keys} is listed, and {now:,.2f} USD of credits were bought, not {before:,.2f}"
    return None


def _credits(stored: Evidence, told: Evidence) -> str | None:
    """Of one account neither credits bought nor credits used ever become much less."""
    for what, before, now in (
        ("used", stored.credits_used_usd, told.credits_used_usd),
        ("bought", stored.credits_total_usd, told.credits_total_usd),
    ):
        if before is not None and now is not None and now < before - CREDITS_TOLERANCE_USD:
            return (
                f"none of the stored keys is listed, and total credits {what} fell from {before:,.2f} to {now:,.2f} USD"
            )
    return None


def _refusal(account: Account, stored: Evidence, told: Evidence, contradicting: str, nothing: str) -> str:
    name = account.name
    sentence = f'The key of account "{name}" belongs to another OpenRouter account: {contradicting}. {nothing}.\n'
    if back := len(stored.deleted & told.keys):
        return sentence + (
            f"It lists {_count(back, 'key')} that a sync with another key took for deleted. If this key is the right "
            f'one: orcost accounts rebuild "{name}"'
        )
    return sentence + (
        f'Put the key of "{name}" back ({account.api_key_env}), or give this one an account of its own: '
        f'orcost init --name NAME. If it is the same account after all: orcost accounts confirm "{name}"'
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
