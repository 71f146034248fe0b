"""The keys of one account, as listed now and as stored: which may have new usage, and which have a given name."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from orcost_pipeline.openrouter.reading import KnownKey, ListedKey


@dataclass(frozen=True)
class AccountKeys:
    """`listed` are the active keys by hash, `known` all stored keys, including deleted ones."""

    listed: Mapping[str, ListedKey]
    known: Mapping[str, KnownKey]

    def name(self, key_hash: str) -> str:
        """The key's current name, or the last one stored. Raises KeyError for an unknown hash."""
        return self.listed[key_hash].name if key_hash in self.listed else self.known[key_hash].name

    def newcomers(self) -> list[ListedKey]:
        """Listed keys that were not stored, or stored as deleted."""
        active = {key_hash for key_hash, key in self.known.items() if key.deleted_at is None}
        return [key for key_hash, key in self.listed.items() if key_hash not in active]

    def alive_since(self, start: datetime) -> set[str]:
        """Keys that may have usage since `start`: all but those deleted before it."""
        deleted_later = {k for k, key in self.known.items() if key.deleted_at is None or key.deleted_at >= start}
        return set(self.listed) | deleted_later

    def moved(self) -> set[str]:
        """Keys with possible new usage: new ones, deleted ones, and those whose counters or last use changed."""
        deleted = {k for k, key in self.known.items() if key.deleted_at is None and k not in self.listed}
        changed = {k for k, key in self.listed.items() if _has_moved(key, self.known.get(k))}
        return deleted | changed | {key.key_hash for key in self.newcomers()}

    def ever_named(self, name: str) -> set[str]:
        """Keys that have or ever had the name."""
        listed = {key_hash for key_hash, key in self.listed.items() if key.name == name}
        return listed | {key_hash for key_hash, key in self.known.items() if name in key.names}

    def with_names(self, names: Iterable[str]) -> set[str]:
        """Keys that ever had one of the names; all active keys for a name that no key had."""
        found: set[str] = set()
        for name in names:
            found |= self.ever_named(name) or set(self.listed)
        return found

    def may_report_late(self, name: str, at: datetime, grain: timedelta) -> bool:
        """Whether an active key may still report usage of the name at that time: all keys that ever had the name are
        active, and one of them existed then."""
        named = self.ever_named(name)
        born = [self.listed[key_hash].created_at or at for key_hash in named if key_hash in self.listed]
        return len(born) == len(named) and any(created_at < at + grain for created_at in born)

    def name_by_label(self, key_hashes: Iterable[str]) -> dict[str, str]:
        """Label → name of the listed keys among these, for labels that are unique among them."""
        names: dict[str, list[str]] = defaultdict(list)
        for key_hash in key_hashes:
            if key := self.listed.get(key_hash):
                names[key.label].append(key.name)
        return {label: found[0] for label, found in names.items() if label and len(found) == 1}


def _has_moved(key: ListedKey, known: KnownKey | None) -> bool:
    return known is None or (key.usage_usd, key.byok_usage_usd, key.last_used_at) != (
        known.usage_usd,
        known.byok_usage_usd,
        known.last_used_at,
    )
