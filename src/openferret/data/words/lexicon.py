"""What words have to do with each other: synonyms, kinds of each other, things like each other, opposites.

Two files of the package are read. `wordnet_relations.json.gz` is made of WordNet 3.0 by
scripts/build_wordnet_table.py: `nouns` (what each is, what that is a kind of, its co-hyponyms, and which of
male, female, adult, child it means), `synsets` (their words), `opposites` of adjectives, and `groups` (colours,
materials, patterns). `alike.yaml` is written by hand and tells what pictures confuse.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from openferret.data.files.yaml_file import check_keys, read_yaml
from openferret.errors import InputError
from openferret.nouns import head_noun, singular

_PEOPLE = "person"
_SETS = ("confusable", "near_colours", "rivals")
_EXCLUDE = (("male", "female"), ("adult", "child"))


@dataclass(frozen=True)
class Noun:
    """A word for something that pictures show.

    Args:
        synset: what it means.
        above: what that is a kind of, nearest first.
        peers: words for things under the nearest common meaning.
        kinds: of male, female, adult and child those it means.
        count: how often phrases of Flickr30k Entities end in it.
    """

    synset: str
    above: frozenset[str]
    peers: tuple[str, ...]
    kinds: frozenset[str]
    count: int


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Words and their relations; `load_lexicon` makes the one that ships.

    Args:
        nouns: by word, singular, lower case.
        synonyms: by synset.
        opposites: of adjectives.
        groups: colours, materials, patterns, by name.
        confusable: sets of words that may be said of one thing.
        near_colours: the same of colours.
        rivals: sets of things that are never taken for each other.
        anybody: words for people of whom nobody knows who they are.
    """

    nouns: Mapping[str, Noun]
    synonyms: Mapping[str, tuple[str, ...]]
    opposites: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[str, ...]]
    confusable: Mapping[str, frozenset[int]]
    near_colours: Mapping[str, frozenset[int]]
    rivals: Mapping[str, tuple[str, ...]]
    anybody: frozenset[str]

    def noun(self, name: str) -> Noun | None:
        """The noun a name ends in, the longest that is known: "a wooden picnic table" is a "picnic table"."""
        return self._known(name)[1]

    def word(self, name: str) -> str:
        """The word of `noun`; without one the name's head, singular."""
        return self._known(name)[0]

    @cached_property
    def _known(self) -> Callable[[str], tuple[str, Noun | None]]:
        @lru_cache(maxsize=50_000)
        def known(name: str) -> tuple[str, Noun | None]:
            words = name.lower().replace("-", " ").replace("_", " ").split()
            head = head_noun(" ".join(words))
            ends = [index + 1 for index, word in enumerate(words) if singular(word) == head]
            for start in range(max(0, (ends[0] if ends else 0) - 3), ends[0] if ends else 0):
                word = " ".join([*words[start : ends[0] - 1], head])
                if word in self.nouns:
                    return word, self.nouns[word]
            return head, self.nouns.get(head)

        return known

    def is_person(self, name: str) -> bool:
        """Whether a name means people."""
        word, noun = self._known(name)
        person = self.nouns.get(_PEOPLE)
        kin = noun is not None and person is not None and person.synset in noun.above | {noun.synset}
        return kin or word in self.anybody or any(part in self.anybody for part in word.split())

    def kinds(self, name: str) -> frozenset[str]:
        """Of male, female, adult and child those that a name means for certain."""
        noun = self.noun(name)
        return noun.kinds if noun else frozenset()

    def may_be(self, candidate: str, name: str) -> bool:
        """Whether something called `name` might as well be called `candidate`; when in doubt it might.

        Names are related if they share a word or a meaning, if one is a kind of the other, or if `alike.yaml`
        confuses them. People are related unless their kinds exclude each other: a firefighter may be a man.

        >>> lexicon = load_lexicon()
        >>> lexicon.may_be("person", "man"), lexicon.may_be("woman", "man"), lexicon.may_be("cat", "dog")
        (True, False, False)
        """
        return self._may_be(candidate, name)

    @cached_property
    def _may_be(self) -> Callable[[str, str], bool]:
        @lru_cache(maxsize=200_000)
        def may_be(candidate: str, name: str) -> bool:
            if self.is_person(candidate) and self.is_person(name):
                return not self.excludes(self.kinds(candidate), self.kinds(name))
            first, one = self._known(candidate)
            second, other = self._known(name)
            if first == second or set(first.split()) & set(second.split()):
                return True
            if one and other:
                if one.synset in other.above | {other.synset} or other.synset in one.above:
                    return True
                if first in self.synonyms[other.synset] or second in self.synonyms[one.synset]:
                    return True
            return bool(self._alike(first) & self._alike(second))

        return may_be

    def _alike(self, word: str) -> frozenset[int]:
        return self.confusable.get(word) or self.confusable.get(word.split()[-1] if word else "", frozenset())

    def excludes(self, kinds: frozenset[str], others: frozenset[str]) -> bool:
        """Whether nobody can be of both: male and female, adult and child."""
        return any(
            (one in kinds and other in others) or (other in kinds and one in others)
            for one, other in _EXCLUDE
        )

    def is_absent(self, candidate: str, things: Iterable[Iterable[str]]) -> bool:
        """Whether nothing of the picture may be called `candidate`.

        Args:
            candidate: a name.
            things: for each thing of the picture all its names. One name that excludes a person is enough: "a
                man" who is also "a guitar player" is no woman.

        >>> load_lexicon().is_absent("woman", [["man", "guitar player"], ["dog"]])
        True
        """
        person = self.is_person(candidate)
        for names in things:
            known = list(names)
            people = [name for name in known if self.is_person(name)] if person else []
            if people:
                if not any(self.excludes(self.kinds(candidate), self.kinds(name)) for name in people):
                    return False
            elif any(self.may_be(candidate, name) for name in known):
                return False
        return True

    def analogous(self, name: str) -> tuple[str, ...]:
        """Things that might have been there instead, the best first: rivals by hand, then co-hyponyms."""
        word, noun = self._known(name)
        return tuple(
            dict.fromkeys(
                one
                for one in (*self.rivals.get(word, ()), *(noun.peers if noun else ()))
                if not self.may_be(one, name)
            )
        )

    def group_of(self, word: str) -> str | None:
        """Which group an adjective is in: "colours" for "red"; None for none."""
        return next((name for name, words in self.groups.items() if word in words), None)

    def may_look(self, colour: str, other: str) -> bool:
        """Whether something of one colour might as well be called the other.

        >>> lexicon = load_lexicon()
        >>> lexicon.may_look("gray", "silver"), lexicon.may_look("red", "blue")
        (True, False)
        """
        near = self.near_colours
        return colour == other or bool(near.get(colour, frozenset()) & near.get(other, frozenset()))


@cache
def load_lexicon(alike: Path | None = None) -> Lexicon:
    """The lexicon that ships; `alike` is another file in the place of `alike.yaml`.

    Raises:
        InputError: a file that is not of its form.
    """
    folder = files("openferret.data.words")
    try:
        table = json.loads(gzip.decompress((folder / "wordnet_relations.json.gz").read_bytes()))
    except (OSError, ValueError, EOFError) as problem:
        raise InputError(f"the word table of the package is damaged: {problem}; install it again") from None
    path = alike or Path(str(folder / "alike.yaml"))
    hand = read_yaml(path)
    check_keys(hand, (*_SETS, "anybody"), str(path))
    sets = {
        name: [_split(line) for line in _lines(hand, name, path)]
        for name in ("confusable", "near_colours", "rivals")
    }
    return Lexicon(
        nouns={word: _noun(entry) for word, entry in table["nouns"].items()},
        synonyms={key: tuple(words) for key, words in table["synsets"].items()},
        opposites={word: tuple(others) for word, others in table["opposites"].items()},
        groups={name: tuple(words) for name, words in table["groups"].items()},
        confusable=_index(sets["confusable"]),
        near_colours=_index(sets["near_colours"]),
        rivals=_rivals(sets["rivals"]),
        anybody=frozenset(_split(str(hand.get("anybody", "")))),
    )


def _noun(entry: Mapping[str, Any]) -> Noun:
    return Noun(
        entry["is"],
        frozenset(entry["above"]),
        tuple(entry.get("peers", ())),
        frozenset(entry.get("kind", ())),
        entry["count"],
    )


def _lines(content: Mapping[str, Any], key: str, path: Path) -> list[str]:
    lines = content.get(key) or []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise InputError(f"{path}: {key} must be a list of lines, each of words with commas between")
    return lines


def _split(line: str) -> list[str]:
    return [word for word in (" ".join(part.split()) for part in line.split(",")) if word]


def _index(lines: Iterable[Iterable[str]]) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for number, line in enumerate(lines):
        for word in line:
            found.setdefault(word, set()).add(number)
    return {word: frozenset(numbers) for word, numbers in found.items()}


def _rivals(lines: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for line in lines:
        for word in line:
            found.setdefault(word, {}).update(dict.fromkeys(other for other in line if other != word))
    return {word: tuple(others) for word, others in found.items()}
