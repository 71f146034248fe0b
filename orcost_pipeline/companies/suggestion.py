"""Suggests rules that attribute keys without an owner to companies, for a person to accept. Pure functions.

Evidence for a company, in this order; the first that applies decides:
1. the key belongs to the company today, and was unattributed before;
2. its name contains the company's name, or begins as only names of the company's keys and rules do;
3. its workspace, or its creator, has mostly keys of one company and none of another; no guess where the two disagree;
4. its name, without words such as "production", would name a new company; not where there is a list of companies.

A rule is as general as possible without matching another key in any of its versions: `Acme *` covers future keys, while
only its hash covers the past of a renamed key.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice, takewhile
from typing import Literal, NamedTuple

from orcost_pipeline.companies.assignment import KeyHistory, KeyVersion, glob_matches
from orcost_pipeline.companies.mapping import UNATTRIBUTED, Rule
from orcost_pipeline.companies.preview import exact_sum

LONGEST_NEW_NAME = 4  # words

Words = tuple[str, ...]
# A rule's match and pattern.
Form = tuple[str, str]

_WORD = re.compile(r"[^\W_]+")
# Words for what a key is used for, which never name a company.
_COMMON = """
an the of for and or my our new old key keys token api app apps tool tools service services server client backend
frontend web website site mobile bot chatbot chat agent agents worker batch job jobs cron gateway proxy shared common
general internal external prod production live staging stage preprod dev development develop test tests testing qa uat
sandbox demo pilot playground experiment evaluation poc trial tmp temp temporary local main default primary secondary
backup reserve customer customers team project user openrouter llm ai gpt claude
"""
_COMMON_WORDS = frozenset(_COMMON.split())


@dataclass(frozen=True, eq=False)
class Key:
    """A key with its versions, its company today (None: split), and its unattributed spend in USD."""

    account: str
    history: KeyHistory
    company: str | None
    credits_usd: Decimal = Decimal(0)
    byok_usd: Decimal = Decimal(0)

    @property
    def now(self) -> KeyVersion:
        """The last version."""
        return self.history.versions[-1]

    @property
    def owner(self) -> str | None:
        """The one company that owns it today; None if it is split or unattributed."""
        return None if self.company == UNATTRIBUTED else self.company

    @property
    def is_open(self) -> bool:
        """Whether it needs a rule: it is unattributed today, or has unattributed spend."""
        return self.company == UNATTRIBUTED or bool(self.credits_usd or self.byok_usd)


@dataclass(frozen=True)
class Suggestion:
    """A rule for keys without an owner, and the reason for it. Amounts are those keys' unattributed spend in USD."""

    company: str
    match: str
    pattern: str
    reason: str
    keys: tuple[Key, ...]

    @property
    def credits_usd(self) -> Decimal:
        """The keys' unattributed spend of credits, in USD."""
        return exact_sum(key.credits_usd for key in self.keys)

    @property
    def byok_usd(self) -> Decimal:
        """The keys' unattributed BYOK spend, in USD."""
        return exact_sum(key.byok_usd for key in self.keys)


class _Guess(NamedTuple):
    """A company, the reason for it, and possible forms of the rule, the most general first."""

    company: str
    reason: str
    forms: tuple[Form, ...] = ()


def suggest(
    keys: Sequence[Key], rules: Iterable[Rule], listed: Mapping[str, Iterable[str]] | None = None
) -> list[Suggestion]:
    """Rules for the open keys with a guess, the largest unattributed spend first.

    `listed` are the companies of the list, each with its other names; None where there is no list.
    """
    dearest_first = sorted(keys, key=lambda key: (-key.credits_usd, -key.byok_usd, key.account, key.history.key_hash))
    known = _KnownNames(keys, rules, listed or {})
    places = _Places(keys)
    new = _NewNames(dearest_first) if listed is None else None
    guesses: dict[Key, _Guess] = {}
    for key in dearest_first:
        guess = _guess(key, known, places, new) if key.is_open else None
        if guess:
            guesses[key] = guess
    chosen: dict[tuple[str, Form], list[Key]] = defaultdict(list)
    reach = _Reach(keys)
    for key, guess in guesses.items():
        chosen[guess.company, _form(key, guess, guesses, reach)].append(key)
    found = [
        Suggestion(company, *form, guesses[of_form[0]].reason, tuple(of_form))
        for (company, form), of_form in chosen.items()
    ]
    return sorted(found, key=lambda it: (-it.credits_usd, -it.byok_usd, it.company, it.match, it.pattern))


# Evidence for a company


def _guess(key: Key, known: _KnownNames, places: _Places, new: _NewNames | None) -> _Guess | None:
    if key.company != UNATTRIBUTED:
        # The past of a split key could belong to any of its owners.
        return _Guess(key.company, f"{key.company}'s today, unattributed before") if key.company else None
    name = _Name(key.now.name)
    if known.is_contested(name):
        return None
    return known.guess(name) or places.guess(key) or (new.guess(name) if new else None)


class _Name:
    """A key's name and the words in it, in lower case."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._spans = [match.span() for match in _WORD.finditer(text)]
        self.words: Words = tuple(text[start:end].casefold() for start, end in self._spans)

    def beginning(self, words: int) -> str:
        """The text of the first words."""
        return self.text[self._spans[0][0] : self._spans[words - 1][1]]

    def forms(self, words: int) -> tuple[Form, ...]:
        """A rule for all names that begin with these words as written here, then one for this name alone."""
        beginnings = [self.text[: self._spans[words][0]] + "*"] if 0 < words < len(self.words) else []
        return tuple(("key_name", pattern) for pattern in [*beginnings, self.text] if _is_writable(pattern))


def _is_writable(pattern: str) -> bool:
    """Whether a mapping file keeps the pattern unchanged, and its only wildcard is a * at the end."""
    is_kept = bool(pattern) and pattern.isprintable() and pattern == pattern.strip()
    return is_kept and not set("*?") & set(pattern.removesuffix("*"))


def _is_distinctive(words: Words) -> bool:
    return any(len(word) > 1 and not word.isdigit() and word not in _COMMON_WORDS for word in words)


class _KnownNames:
    """The names of companies, and the beginnings of the names of their keys and rules."""

    def __init__(self, keys: Iterable[Key], rules: Iterable[Rule], listed: Mapping[str, Iterable[str]]) -> None:
        self._companies: dict[Words, set[str]] = defaultdict(set)
        self._beginnings: dict[Words, dict[str, str]] = defaultdict(dict)
        for company, others in listed.items():
            for called in (company, *others):
                self._companies[_Name(called).words].add(company)
        for rule in rules:
            for share in rule.shares:
                self._companies[_Name(share.company).words].add(share.company)
                self._learn(share.company, _whole_words(rule.pattern) if rule.match == "key_name" else "")
        for key in keys:
            if key.owner:
                self._learn(key.owner, key.now.name)
        self._companies.pop((), None)

    def _learn(self, company: str, example: str) -> None:
        words, company_words = _Name(example).words, _Name(company).words
        if words[: len(company_words)] == company_words:
            return  # "Company" begins "Company A Website" and proves nothing
        for length in range(1, len(words) + 1):
            self._beginnings[words[:length]].setdefault(company, example)

    def is_contested(self, name: _Name) -> bool:
        """Whether the name contains the names of two companies, neither within the other."""
        return len(self._held(name)[0]) > 1

    def guess(self, name: _Name) -> _Guess | None:
        """The company whose name the key's name contains, or whose keys alone begin like it."""
        companies, words = self._held(name)
        if companies:
            (company,) = companies
            return _Guess(company, "named like the company", name.forms(words))
        for length in range(len(name.words), 0, -1):
            if examples := self._beginnings.get(name.words[:length]):
                if len(examples) > 1 or not _is_distinctive(name.words[:length]):
                    return None
                ((company, example),) = examples.items()
                return _Guess(company, f'named like "{example}"', name.forms(length))
        return None

    def _held(self, name: _Name) -> tuple[set[str], int]:
        """The companies whose names it contains, none within another, and how many of its first words name one."""
        words, begins = name.words, 0
        companies: set[str] = set()
        taken: set[int] = set()
        for length in range(len(words), 0, -1):
            for at in range(len(words) - length + 1):
                part, places = words[at : at + length], set(range(at, at + length))
                # One or two letters inside a name may be any word.
                is_telling = at == 0 or len("".join(part)) > 2
                if is_telling and part in self._companies and not places <= taken:
                    companies |= self._companies[part]
                    taken |= places
                    begins = begins or (length if at == 0 else 0)
        return companies, begins


def _whole_words(pattern: str) -> str:
    """The beginning of every name that matches a glob, up to the last word that is complete."""
    head = re.split(r"[*?]", pattern)[0]
    return head if head == pattern else re.sub(r"[^\W_]+\Z", "", head)


class _Place(NamedTuple):
    """A key's workspace or creator; `value` as a rule names it."""

    account: str
    kind: Literal["workspace", "creator"]
    value: str


class _Places:
    """The owners of the keys of each workspace and of each creator."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._owners: dict[_Place, Counter[str | None]] = defaultdict(Counter)
        for key in keys:
            for place in _places(key):
                self._owners[place][key.company] += 1
        self._workspaces = Counter(place.account for place in self._owners if place.kind == "workspace")

    def guess(self, key: Key) -> _Guess | None:
        """The company that owns the keys of the workspace or the creator, where the two do not disagree."""
        owned = [(place, company) for place in _places(key) if (company := self._owner(place))]
        if len({company for _, company in owned}) != 1:
            return None
        place, company = owned[0]
        count, forms = self._owners[place], _Name(key.now.name).forms(0)
        what = f"made by {place.value}"
        if place.kind == "workspace":
            what = f"in workspace {place.value}"
            forms = (("workspace", place.value), *forms) if _is_writable(place.value) else forms
        return _Guess(company, f"{count[company]} of {count.total()} keys {what} are {company}'s", forms)

    def _owner(self, place: _Place) -> str | None:
        """The one company with keys there, at least as many as are open; an account's only workspace proves nothing."""
        owners = dict(self._owners[place])
        still_open = owners.pop(UNATTRIBUTED, 0)
        if len(owners) != 1 or (place.kind == "workspace" and self._workspaces[place.account] == 1):
            return None
        ((company, count),) = owners.items()
        return company if count >= still_open else None


def _places(key: Key) -> Iterator[_Place]:
    now = key.now
    if workspace := now.workspace_name or now.workspace_id:
        yield _Place(key.account, "workspace", workspace)
    if creator := now.creator_email or now.creator_user_id:
        yield _Place(key.account, "creator", creator)


class _NewNames:
    """New companies, by the names of keys without the common words at their end."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._written: dict[Words, str] = {}
        for key in keys:
            name = _Name(key.now.name)
            if length := _company_words(name.words):
                self._written.setdefault(name.words[:length], name.beginning(length))

    def guess(self, name: _Name) -> _Guess | None:
        """The shortest beginning shared with another key: "Globex" for "Globex Reports" and "Globex Production"."""
        for length in range(1, _company_words(name.words) + 1):
            if company := self._written.get(name.words[:length]):
                return _Guess(company, "a new company, by its name", name.forms(length))
        return None


def _company_words(words: Words) -> int:
    """The number of words without common words and numbers at the end; 0 where they do not name a company."""
    length = len(words)
    while length and (words[length - 1] in _COMMON_WORDS or words[length - 1].isdigit()):
        length -= 1
    is_name = 0 < length <= LONGEST_NEW_NAME and words[0] not in _COMMON_WORDS and _is_distinctive(words[:length])
    return length if is_name and " ".join(words[:length]) != UNATTRIBUTED.casefold() else 0


# Forms of rules


class _Reach:
    """Finds the keys that a rule matches in any of their versions."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys: dict[str, dict[str, set[Key]]] = defaultdict(lambda: defaultdict(set))
        for key in keys:
            for version in key.history.versions:
                for match, value in version.values():
                    if value is not None:
                        self._keys[match][value].add(key)
        self._values = {match: sorted(found) for match, found in self._keys.items()}

    def of(self, form: Form) -> set[Key]:
        """The keys that a rule of this form matches."""
        match, pattern = form
        if not pattern.endswith("*"):
            return self._keys[match].get(pattern, set())
        head = pattern.removesuffix("*")
        from_head = islice(self._values[match], bisect_left(self._values[match], head), None)
        return set().union(
            *(self._keys[match][it] for it in takewhile(lambda value: value.startswith(head), from_head))
        )


def _form(key: Key, guess: _Guess, guesses: Mapping[Key, _Guess], reach: _Reach) -> Form:
    """The first form that matches all versions of the key and no key of another company; a glob needs two keys.

    The key's hash where there is none.
    """
    for form in guess.forms:
        reached = reach.of(form)
        is_safe = all(_belongs_to(other, guess.company, guesses) for other in reached)
        is_glob = form[1].endswith("*")
        if is_safe and _always_matches(form, key) and (not is_glob or sum(it in guesses for it in reached) > 1):
            return form
    return "key_hash", key.history.key_hash


def _belongs_to(key: Key, company: str, guesses: Mapping[Key, _Guess]) -> bool:
    return key.owner == company or (key in guesses and guesses[key].company == company)


def _always_matches(form: Form, key: Key) -> bool:
    match, pattern = form
    return all(
        any(it == match and value is not None and glob_matches(pattern, value) for it, value in version.values())
        for version in key.history.versions
    )
