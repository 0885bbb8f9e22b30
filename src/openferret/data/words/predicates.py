"""Relations that annotators wrote in a hurry -> clauses that a person would say.

Visual Genome has "man | wears | hat", "cup | on a | table", "women | ride | horse", "tree | ON | hill".
"""

from __future__ import annotations

from dataclasses import dataclass

from openferret.data.words.english import head_word, is_or_are, is_plural, with_article, with_the
from openferret.nouns import PREPOSITIONS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ARTICLES = {"a", "an", "the", "his", "her", "their", "its", "some"}
_BE = {"is", "are", "was", "were", "be", "being"}
_PLACES = PREPOSITIONS | _words("""
    next front left right back top bottom parallel adjacent away ahead part full close underneath onto here tall high
    low ready attached opposite nearby beyond to
""")
_PARTICIPLES = _words("""
    held worn built made cut seen hung shown drawn driven ridden eaten kept laid lit set sat stuck taken thrown tied
    written grown sewn woven torn broken hidden spread bent
""")
_BASE = _words("""
    wear ride hold carry eat have watch cover play hang sit stand surround cast touch use support look face pull read
    line show drive fly walk lie lean rest contain cross follow push hit throw catch kick see reflect say feed pet
    drink cook cut park grow wait run jump sell point reach smile swing enter leave herd graze connect hug kiss chase
    feature display adorn grab talk speak lead block overlook light separate decorate hide form brush enjoy help
""")
_NEW = _words("""
    has have wear wears wearing hold holds holding carry carries carrying eat eats eating with without drinking using
    play plays playing
""")


@dataclass(frozen=True)
class Clause:
    """A predicate, made to agree with its subject.

    Args:
        statement: after the subject: "is riding", "has", "are on".
        question: a question for the object, without the question word: "is the man riding", "does the man have".
        new: whether the object is said as something new: "has a hat", but "is on the table".
    """

    statement: str
    question: str
    new: bool


def read_predicate(subject: str, predicate: str) -> Clause | None:
    """Makes a clause.

    Args:
        subject: noun phrase, for agreement.
        predicate: as annotated.

    Returns:
        The clause, or None for words that make none ("and", "x").

    >>> read_predicate("the man", "wears"), read_predicate("dogs", "ON the")
    (Clause(statement='wears', question='does the man wear', new=True), \
Clause(statement='are on', question='are the dogs on', new=False))
    """
    words = predicate.lower().replace("_", " ").strip(" .").split()
    while words and words[-1] in _ARTICLES:
        del words[-1]
    while words and words[0] in _BE:
        del words[0]
    if not words or not all(word.replace("-", "").isalpha() for word in words):
        return None
    first, rest = words[0], words[1:]
    known, plural = with_the(subject), is_plural(subject)
    new = first in _NEW
    if words == ["of"]:
        words = ["part", "of"]
    base = _base_form(first)
    if first.endswith(("ing", "ed")) or words[0] in _PLACES or first in _PARTICIPLES:
        be = is_or_are(subject)
        return Clause(" ".join([be, *words]), " ".join([be, known, *words]), new)
    if base is None:
        return None
    verb = base if plural else _third_person(base)
    does = "do" if plural else "does"
    return Clause(" ".join([verb, *rest]), " ".join([does, known, base, *rest]), new)


def statement(subject: str, clause: Clause, thing: str) -> str:
    """The whole sentence, without its full stop.

    >>> clause = read_predicate("man", "wears")
    >>> statement("man", clause, "hat") if clause else ""
    'the man wears a hat'
    """
    return f"{with_the(subject)} {clause.statement} {object_phrase(subject, clause, thing)}"


def object_phrase(subject: str, clause: Clause, thing: str) -> str:
    """The object with its article; of two things of one name the second is "another"."""
    if head_word(subject) == head_word(thing) and subject.lower() == thing.lower():
        return f"other {thing}" if is_plural(thing) else f"another {thing}"
    return with_article(thing) if clause.new else with_the(thing)


def _base_form(verb: str) -> str | None:
    if verb == "has":
        return "have"
    if verb in _BASE:
        return verb
    for ending, instead in (("ies", "y"), ("es", ""), ("s", "")):
        if verb.endswith(ending) and verb[: -len(ending)] + instead in _BASE:
            return verb[: -len(ending)] + instead
    return None


def _third_person(base: str) -> str:
    if base == "have":
        return "has"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ies"
    return base + ("es" if base.endswith(("s", "x", "ch", "sh", "o")) else "s")
