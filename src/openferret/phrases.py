"""Where a noun phrase begins: a rule of words for model output that does not mark its phrases.

English, by short lists of words: no grammar is needed to find "a red ball" in "the boy kicks a red ball".
"""

from __future__ import annotations

import re
from itertools import pairwise


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DETERMINERS = _words("""
    a an the this that these those his her their its my your our some several many few both each every another
    all no one two three four five six seven eight nine ten eleven twelve dozen multiple various
""")
_NO_ARTICLE = _words("""
    people men women children feet teeth sheep cattle
    water grass snow sand dirt mud ice food hair sky traffic clothing furniture luggage music rain smoke wood
""")
_COLOURS = _words("""
    black white brown red blue green yellow orange pink purple gray grey tan gold silver beige maroon
""")
_CONJUNCTIONS = _words(
    "and or but nor so while as because if than then when where which who whose whom what there"
)
_PREPOSITIONS = _words("""
    in on at with by to from into onto near under over above below beside besides behind between among across
    along around against through towards toward inside outside within without upon off up down out for about
    past during after before like via amid atop next here
""")
_VERBS = _words("""
    is are was were be been being am has have had having do does did doing can could will would may might must
    not also it he she they i you we him them me us located visible wear wears wearing wore holds holding held
    rides riding rode carries carrying uses using plays playing played eats eating drinks drinking pushes
    pushing pulls pulling throws throwing catches catching kicks kicking hits hitting watches watching makes
    making reads reading sells selling chases chasing sees seeing shows showing contains containing looks
    looking stands sits sitting walks walking runs jumps jumping climbs climbing leans leaning crosses
    crossing faces facing follows following gets getting gives giving performs performing takes taking
""")
_STOPS = _CONJUNCTIONS | _PREPOSITIONS | _VERBS

_WORD = re.compile(r"['\u2019]?\w[\w'\u2019-]*")
_REACH = 200  # characters; no noun phrase is longer


def last_noun_phrase(text: str) -> tuple[int, int]:
    """Span of the noun phrase that ends a text, in characters.

    Words that belong to none ("is at", "riding") are passed over at the end. From there the phrase goes back
    to its determiner or number, which it holds, or to a mark, conjunction, preposition or verb, which it does
    not. Where nothing better is found it is the last word; for a text without words it is empty, at the
    text's end.

    >>> text = "the boy kicks and rolls a red ball"
    >>> text[slice(*last_noun_phrase(text))]
    'a red ball'
    """
    found = list(_WORD.finditer(text, max(0, len(text) - _REACH)))
    words = [word.group().lower() for word in found]
    if not found:
        return len(text), len(text)
    last = len(words) - 1
    while last >= 0 and words[last] in _STOPS:
        last -= 1
    if last < 0:
        return found[-1].span()

    def joined(index: int) -> bool:
        """Whether the word before belongs to the same phrase: "black and white dog" is one."""
        gap = text[found[index - 1].end() : found[index].start()]
        before = words[index - 1]
        of_colours = before == "and" and index > 1 and {words[index - 2], words[index]} <= _COLOURS
        return (before not in _STOPS or of_colours) and not gap.strip() and "\n" not in gap

    first = last
    while first > 0 and not _begins(words[first]) and joined(first):
        first -= 1
    while first > 0 and _begins(words[first - 1]) and joined(first):  # "the two dogs" has two beginnings
        first -= 1
    return found[first].start(), found[last].end()


def with_determiner(phrase: str) -> str:
    """A class name as a person would say it of a thing in a picture: Kit learned its phrases from captions.

    Plurals, substances and phrases that have a determiner or a number stay as they are.

    Example:
        >>> with_determiner("dog"), with_determiner("orange"), with_determiner("dogs"), with_determiner("my dog")
        ('a dog', 'an orange', 'dogs', 'my dog')
    """
    words = phrase.lower().split()
    if not words or words[0] in _DETERMINERS or not words[0].isalpha():
        return phrase
    head = next((one for one, after in pairwise(words) if after in _PREPOSITIONS), words[-1])
    plural = head.endswith("s") and not head.endswith(("ss", "us", "is"))
    if plural or head in _NO_ARTICLE:
        return phrase
    return ("an " if takes_an(words[0]) else "a ") + phrase


def takes_an(word: str) -> bool:
    """Whether "an" goes before a word rather than "a", by its first letters.

    Example:
        >>> takes_an("eye"), takes_an("dog"), takes_an("uniform"), takes_an("hour")
        (True, False, False, True)
    """
    word = word.lower()
    if word.startswith(("uni", "use", "usu", "ute", "uku", "eu", "one")):
        return False
    return word.startswith(("a", "e", "i", "o", "u", "hour", "heir", "honest", "honour", "honor"))


def without_determiner(phrase: str) -> str:
    """What a phrase names, as a class: lower case, single spaces, no leading determiner or number.

    >>> without_determiner("The two  Dogs")
    'dogs'
    """
    words = phrase.lower().split()
    while len(words) > 1 and _begins(words[0]):
        del words[0]
    return " ".join(words)


def _begins(word: str) -> bool:
    return word in _DETERMINERS or word.isdigit()
