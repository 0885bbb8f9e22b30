"""Small change of English that written questions need: articles, plurals, numbers, lists, agreement."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from openferret.nouns import IRREGULAR_PLURALS, head_noun, singular

NUMBERS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)

_REMEMBERED = 20_000  # names repeat: a vocabulary has a few hundred


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Nouns that are not counted: no article, and "is there grass".
_MASS = _words("""
    grass snow sand water dirt sky hair food ice ground wood rice bread cheese butter meat luggage clothing
    furniture equipment graffiti foliage vegetation traffic jewelry mud smoke rain fog gravel grassland
    electricity scenery makeup frosting icing cream pasta sugar salt fur skin beer wine coffee tea milk soup sunlight
    shade pavement concrete asphalt broccoli bacon lettuce
""")
_ALWAYS_PLURAL = _words("""
    people men women children pants jeans shorts trousers tights leggings glasses sunglasses goggles scissors skis
    feet teeth geese mice clothes binoculars headphones earphones pajamas overalls boxers fries cattle police
    tongs pliers spectacles stairs bleachers
""")
_SAME_IN_PLURAL = _words("sheep deer fish aircraft spacecraft moose bison salmon trout shrimp")
_PLURALS = {one: many for many, one in IRREGULAR_PLURALS.items()}
_AN = re.compile(
    r"(?!(?:uni|use|usu|eu|one\b|once|u-|ut[ie]))[aeiou]|(?:hour|heir|honest|honor)", re.IGNORECASE
)
_DETERMINER = re.compile(
    r"(?:an?|the|this|that|these|those|his|her|their|its|my|your|our|some|several|many|two|three|four|five|six|"
    r"seven|eight|nine|ten|eleven|twelve|one|both|each|every|another|other|few|various|multiple|all|\d+)\b",
    re.IGNORECASE,
)
_STARTS_THREE = _words("a an the this that these those")


@lru_cache(maxsize=_REMEMBERED)
def is_plural(phrase: str) -> bool:
    """Whether a noun phrase means several: "two dogs", "trees", "men in hats".

    >>> is_plural("trees"), is_plural("a bus"), is_plural("people on a bench")
    (True, False, True)
    """
    first = phrase.lower().split(" ", 1)[0]
    if first in {"a", "an", "one", "another", "each", "every", "this", "that"}:
        return False
    word = head_word(phrase)
    if word in _ALWAYS_PLURAL:
        return True
    return word not in _SAME_IN_PLURAL and bool(word) and singular(word) != word


@lru_cache(maxsize=_REMEMBERED)
def head_word(phrase: str) -> str:
    """The head noun as it is written, its plural kept: "dogs" of "two dogs on a bed"."""
    folded: str = head_noun(phrase)
    words: list[str] = re.findall(r"[a-z0-9][a-z0-9'-]*", phrase.lower())
    return next((word for word in words if singular(word) == folded), folded)


@lru_cache(maxsize=_REMEMBERED)
def with_article(noun: str) -> str:
    """A noun as one says it when it is new: "a dog", "an apple", "trees", "grass".

    >>> with_article("apple"), with_article("jeans"), with_article("grass"), with_article("uniform")
    ('an apple', 'jeans', 'grass', 'a uniform')
    """
    if _DETERMINER.match(noun) or is_plural(noun) or head_noun(noun) in _MASS:
        return noun
    return ("an " if _AN.match(noun) else "a ") + noun


@lru_cache(maxsize=_REMEMBERED)
def with_the(noun: str) -> str:
    """A noun as one says it when it is known: "the dog"; a determiner is replaced, a possessive is kept.

    >>> with_the("a dog"), with_the("dogs"), with_the("his hat"), with_the("two dogs")
    ('the dog', 'the dogs', 'his hat', 'the two dogs')
    """
    first, _, rest = noun.partition(" ")
    if first.lower() in _STARTS_THREE | {"some", "one", "another"} and rest:
        return f"the {rest}"
    if first.lower() in {"his", "her", "their", "its", "my", "your", "our", "both", "all", "each", "every"}:
        return noun
    return f"the {noun}"


@lru_cache(maxsize=_REMEMBERED)
def plural(noun: str) -> str:
    """Several of it: "dogs", "people", "bags of chips".

    >>> [plural(one) for one in ("bus", "knife", "city", "person", "sheep", "bag of chips", "tennis racket")]
    ['buses', 'knives', 'cities', 'people', 'sheep', 'bags of chips', 'tennis rackets']
    """
    before, of, after = noun.partition(" of ")
    *front, last = before.split(" ")
    return " ".join([*front, _plural_word(last)]) + of + after


def _plural_word(word: str) -> str:
    low = word.lower()
    if low in _ALWAYS_PLURAL | _SAME_IN_PLURAL | _MASS or (singular(low) != low and low not in _PLURALS):
        return word
    if low == "person":
        return "people"
    if low in _PLURALS:
        return _PLURALS[low]
    if low.endswith("man") and low not in {"human", "german", "talisman"}:
        return word[:-2] + "en"
    if low.endswith(("s", "x", "z", "ch", "sh")) or low in {"potato", "tomato", "mango", "hero"}:
        return word + "es"
    if low.endswith("y") and low[-2:-1] not in set("aeiou"):
        return word[:-1] + "ies"
    return word + "s"


@lru_cache(maxsize=_REMEMBERED)
def counted(noun: str, count: int) -> str:
    """So many of it: "one dog", "three dogs", "13 dogs".

    >>> counted("dog", 2), counted("person", 13), counted("grass", 2), counted("jeans", 1)
    ('two dogs', '13 people', 'grass', 'jeans')
    """
    word = head_word(noun)
    if word in _MASS or word in _ALWAYS_PLURAL - {"people", "men", "women", "children", "feet", "teeth"}:
        return noun
    if count == 1:
        return with_article(noun)
    return f"{NUMBERS[count] if count < len(NUMBERS) else count} {plural(noun)}"


def number_of(word: str) -> int | None:
    """What a number word means, None if it is none.

    >>> number_of("two"), number_of("12"), number_of("dog")
    (2, 12, None)
    """
    low = word.lower()
    if low in NUMBERS[1:]:
        return NUMBERS.index(low)
    return int(low) if low.isdecimal() and low.isascii() and len(low) < 4 else None


def is_or_are(phrase: str) -> str:
    """The verb that agrees with a noun phrase."""
    return "are" if is_plural(phrase) else "is"


def listing(parts: Sequence[str]) -> str:
    """Parts in a row: "a dog, a cat and a man".

    >>> listing(["a dog", "a cat", "a man"])
    'a dog, a cat and a man'
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(text: str) -> str:
    """Its first letter large; a `<phrase>` before it stays.

    >>> sentence("<phrase>a dog <box:0>.")
    '<phrase>A dog <box:0>.'
    """
    mark = "<phrase>" if text.startswith("<phrase>") else ""
    rest = text[len(mark) :]
    return mark + rest[:1].upper() + rest[1:]


@lru_cache(maxsize=_REMEMBERED)
def tidy(text: str) -> str:
    """Single spaces, and none before a mark of punctuation, as captions have them.

    >>> tidy("A man 's hat , red .")
    "A man's hat, red."
    """
    joined = re.sub(r"\s+(?=[.,!?;:]|'s\b|n't\b)", "", text)
    return " ".join(joined.split())


def lower_first(text: str) -> str:
    """Its first letter small, unless the word is a name or in capitals: "A man" -> "a man", "TV" stays.

    >>> lower_first("A man"), lower_first("TV screen")
    ('a man', 'TV screen')
    """
    first = text.split(" ", 1)[0]
    return text[:1].lower() + text[1:] if first[1:].islower() or len(first) == 1 else text
