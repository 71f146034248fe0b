"""Preview of a mapping: how much it would move, from which company to which, in which months.

What belongs here: from the published warehouse and rules that are not in force to sentences and exact data. What stays
out: the arithmetic (`companies/preview.py`). Nothing is loaded or written; without a warehouse there is no preview, and
a sentence says why.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

import sqlalchemy as sa
from rich.console import Group, RenderableType
from rich.text import Text

from orcost_pipeline.cli.rendering import MOST_ROWS, cells, left_out, show, table
from orcost_pipeline.companies.assignment import Assignment, assign
from orcost_pipeline.companies.coverage import DAYS, Coverage
from orcost_pipeline.companies.mapping import UNATTRIBUTED, Rule
from orcost_pipeline.companies.preview import Change, KeyDay, Move, changes, exact_sum, moves
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.formats import money, share
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.attribution import coverage, histories, synced
from orcost_pipeline.text import MOST_NAMES, few, plural, short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.opening import NOTHING_YET
from orcost_pipeline.warehouse.questions.keys import key_versions
from orcost_pipeline.warehouse.questions.mapping import Totals, account_totals, key_days, published_owners
from orcost_pipeline.windows import utc_day

MONTHS_SHOWN = 6
_AMOUNTS = {"credits_usd": "USD", "byok_usd": "BYOK USD"}


@dataclass(frozen=True)
class AccountEffect:
    """What moves in one account, in USD by pair of companies and UTC month.

    pending: moves from the published state to the state from which `moves` are counted: rules that no sync has loaded.
    since: for each key with other owners on or after the last sync's day, the first such day.
    """

    account: str
    as_of: datetime
    totals: Totals
    moves: Sequence[Move]
    pending: Sequence[Move]
    since: Mapping[str, date]

    def unattributed(self, amount: str) -> tuple[Decimal, Decimal]:
        """Unattributed USD before and after; `amount` is `credits_usd` or `byok_usd`."""
        published: Decimal = getattr(self.totals, f"unattributed_{amount}")
        before = exact_sum([published, *_unattributed(self.pending, amount)])
        return before, exact_sum([before, *_unattributed(self.moves, amount)])


def _unattributed(moved: Sequence[Move], amount: str) -> Iterator[Decimal]:
    """The USD that each move adds to Unattributed, negative where it takes from it."""
    for move in moved:
        if move.taker == UNATTRIBUTED:
            yield getattr(move, amount)
        if move.giver == UNATTRIBUTED:
            yield getattr(move, amount).copy_negate()


@dataclass(frozen=True)
class Effect:
    """What moves in each account and what is then covered; `left_out` says why there is no preview."""

    accounts: Sequence[AccountEffect] = ()
    coverage: Coverage = field(default_factory=Coverage)
    idle: Sequence[Mistake] = ()
    left_out: str | None = None


def effect(settings: Settings, rules: Sequence[Rule], before: Sequence[Rule] | None = None) -> Effect:
    """What these rules would move, compared with the published state or with that of the rules `before`.

    Never raises for a warehouse that is missing or cannot be read; the effect then says why it has no preview.
    """
    try:
        with snapshot(settings) as connection:
            accounts = synced(connection, settings)
            effects = [_of_account(connection, account, as_of, rules, before) for account, as_of in accounts.items()]
            covered = coverage(connection, settings, rules)
    except OrcostError as error:
        return Effect(left_out=str(error))
    if not effects:
        return Effect(left_out=NOTHING_YET)
    return Effect(effects, covered, covered.idle(rules, utc_day(max(accounts.values()))))


def _of_account(
    connection: sa.Connection, account: str, as_of: datetime, rules: Sequence[Rule], before: Sequence[Rule] | None
) -> AccountEffect:
    published = [Assignment(*row, line=None) for row in published_owners(connection, account)]
    keys = histories(key_versions(connection, account))
    start = published if before is None else assign(account, before, keys)
    pending, changed = changes(published, start), changes(start, assign(account, rules, keys))
    hashes = {change.key_hash for change in (*pending, *changed)}
    spent = [KeyDay(*row) for row in key_days(connection, account, hashes)]
    return AccountEffect(
        account,
        as_of,
        account_totals(connection, account),
        moves(changed, spent),
        moves(pending, spent),
        _since(changed, utc_day(as_of)),
    )


def _since(changed: Sequence[Change], today: date) -> dict[str, date]:
    """By key, the first UTC day from today on with other owners."""
    found: dict[str, date] = {}
    for change in changed:
        if change.end > today:
            found.setdefault(change.key_hash, max(change.start, today))
    return found


# Output


def as_data(effect: Effect) -> dict[str, object]:
    """The effect as a JSON object with exact amounts in USD."""
    return {
        "coverage": None if effect.left_out else _coverage_data(effect.coverage),
        "preview": None if effect.left_out else [_account_data(account) for account in effect.accounts],
        "preview_left_out": effect.left_out,
    }


def _coverage_data(covered: Coverage) -> dict[str, object]:
    spend, byok = covered.spend(), covered.byok()
    return {
        "days": DAYS,
        "keys": covered.keys,
        "attributed_keys": covered.attributed_keys,
        "credits_usd": spend.whole,
        "unattributed_credits_usd": spend.unattributed,
        "byok_usd": byok.whole,
        "unattributed_byok_usd": byok.unattributed,
    }


def _account_data(account: AccountEffect) -> dict[str, object]:
    both = {name: account.unattributed(name) for name in _AMOUNTS}
    return {
        "account": account.account,
        "as_of": account.as_of,
        "moves": [
            {
                "from": move.giver,
                "to": move.taker,
                "month": move.month,
                "credits_usd": move.credits_usd,
                "byok_usd": move.byok_usd,
                "keys": len(move.keys),
            }
            for move in sorted(account.moves, key=lambda move: (move.giver, move.taker, move.month))
        ],
        "keys_from_today": len(account.since),
        "unattributed_before": {name: before for name, (before, _) in both.items()},
        "unattributed_after": {name: after for name, (_, after) in both.items()},
    }


def show_effect(effect: Effect) -> None:
    """Prints a table of moves per account, and Unattributed before and after."""
    if effect.left_out:
        show("", Text(f"No preview of what it would move: {effect.left_out}", style="yellow"))
        return
    for account in effect.accounts:
        show("", *_parts(account, is_one_of_several=len(effect.accounts) > 1))


def _parts(account: AccountEffect, *, is_one_of_several: bool) -> Iterator[RenderableType]:
    whose = f' of account "{account.account}"' if is_one_of_several else ""
    if not account.moves:
        yield Text(f"If it takes effect, no spend{whose} moves.", style="bold")
    else:
        yield Text(f"If it takes effect, spend{whose} moves:", style="bold")
    for amount, unit in _AMOUNTS.items():
        moved = [move for move in account.moves if getattr(move, amount)]
        if moved:
            yield _moves(moved, amount, unit)
    for amount, unit in _AMOUNTS.items():
        if any(account.unattributed(amount)):
            yield Text(f"{UNATTRIBUTED}: {_before_and_after(account, amount, unit)}")
    days = sorted(Counter(account.since.values()).items())
    for line in few([f"From {day} on, {_with_other_owners(keys)} than now." for day, keys in days], MOST_NAMES):
        yield Text(line)
    if account.pending:
        yield Text("Other lines that no sync has loaded yet move spend too: orcost map check", style="yellow")


def _with_other_owners(keys: int) -> str:
    return f"{plural(keys, 'key')} {'has another owner' if keys == 1 else 'have other owners'}"


def _before_and_after(account: AccountEffect, amount: str, unit: str) -> str:
    before, after = account.unattributed(amount)
    whole: Decimal = getattr(account.totals, amount)
    write = money([before, after])
    return f"{write(before)} → {write(after)} {unit} ({share(before, whole)} → {share(after, whole)} of all spend)"


def _moves(moved: Sequence[Move], amount: str, unit: str) -> RenderableType:
    """A row per pair of companies, the largest first; a column per month, with old months in one."""
    months = sorted({move.month for move in moved})
    older, shown = months[: -MONTHS_SHOWN + 1] if len(months) > MONTHS_SHOWN else [], months[-MONTHS_SHOWN + 1 :]
    shown = shown if older else months
    titles = [f"{month:%Y-%m}" for month in shown]
    if older:
        titles.insert(0, f"before {shown[0]:%Y-%m}")
    pairs: dict[tuple[str, str], list[Move]] = defaultdict(list)
    for move in moved:
        pairs[move.giver, move.taker].append(move)
    rows = {pair: [_sum(of_pair, [month], amount) for month in shown] for pair, of_pair in pairs.items()}
    if older:
        rows = {pair: [_sum(pairs[pair], older, amount), *row] for pair, row in rows.items()}
    write = money(value for row in rows.values() for value in row)
    drawn = table(f"  {unit}", *titles, "Keys", right=[*titles, "Keys"])
    pairs_shown = sorted(rows, key=lambda pair: (-exact_sum(rows[pair]), pair))[:MOST_ROWS]
    for pair in pairs_shown:
        keys = {key for move in pairs[pair] for key in move.keys}
        amounts = [write(value or None) for value in rows[pair]]
        drawn.add_row(*cells(f"  {short(pair[0])} → {short(pair[1])}", *amounts, f"{len(keys):,}"))
    return Group(drawn, *left_out(len(rows), len(pairs_shown), "--format json"))


def _sum(moved: Sequence[Move], months: Sequence[date], amount: str) -> Decimal:
    return exact_sum(getattr(move, amount) for move in moved if move.month in months)
