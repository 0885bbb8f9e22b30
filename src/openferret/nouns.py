"""The head noun of a phrase: what a region is judged by, and what the bridge is taught with."""

from __future__ import annotations

import re

PREPOSITIONS = frozenset(
    """
    about above across after against along alongside amid among around as at atop before behind below
    beneath beside between beyond by down during for from in including inside into like near next of off
    on onto out outside over past through toward towards under underneath up upon using wearing while
    with within without holding that which who whose carrying
    """.split()  # noqa: SIM905 (a list of sixty quoted words is harder to read)
)
IRREGULAR_PLURALS = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "knives": "knife",
    "wives": "wife",
    "leaves": "leaf",
    "shelves": "shelf",
    "scarves": "scarf",
    "loaves": "loaf",
    "wolves": "wolf",
    "policemen": "policeman",
    "firemen": "fireman",
    "workmen": "workman",
}
SINGULAR_IN_S = frozenset(
    """
    glass grass dress bus gas class cross mattress canvas lens tennis chess boss compass princess
    waitress
    """.split()  # noqa: SIM905
)
WORDS = re.compile(r"[a-z0-9][a-z0-9'-]*")


def singular(word: str) -> str:
    """Folds an English plural, by rule: "dogs" -> "dog", "women" -> "woman", "glasses" -> "glass".

    Example:
        >>> singular("buses"), singular("ladies"), singular("grass")
        ('bus', 'lady', 'grass')
    """
    if word in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[word]
    if word in SINGULAR_IN_S or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "ches", "shes", "xes", "zes", "uses")):
        return word[:-2]
    return word[:-1]


def head_words(phrase: str) -> list[str]:
    """The words before any preposition, lower-cased; the last is what the phrase names.

    Example:
        >>> head_words("Two brown dogs with collars")
        ['two', 'brown', 'dogs']
    """
    words = WORDS.findall(phrase.lower())
    for index, word in enumerate(words):
        if word in PREPOSITIONS and index > 0:
            return words[:index]
    return words


def head_noun(phrase: str) -> str:
    """The last of the `head_words`, its plural folded; "" if there is no word.

    Example:
        >>> head_noun("A group of young men"), head_noun("two brown dogs with collars")
        ('group', 'dog')
    """
    words = head_words(phrase)
    return singular(words[-1]) if words else ""
