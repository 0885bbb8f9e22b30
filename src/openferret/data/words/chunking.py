"""Noun phrases of an English text that could be pointed at on a picture: by rule, without a tagger.

A phrase ends in a noun that the lexicon knows as visible, the last of a row of them ("fire hydrant"), and begins
where `openferret.phrases` says that a noun phrase begins: at its determiner or number, or after a preposition, verb
or mark. Words before the noun that are neither determiners, numbers, nouns nor adjectives of the lexicon are left
out where the phrase has no determiner. Nouns that name the picture itself, a part of it or something about it
("image", "background", "way") are passed over. What is missed stays plain text; what is found too much is left
to the detector's threshold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from openferret.data.words.lexicon import Lexicon
from openferret.phrases import last_noun_phrase, without_determiner

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_NOT_POINTED_AT = frozenset(
    """
    image picture photo photograph scene background foreground side top bottom front back middle center centre left
    right corner edge part area view way type kind variety number group lot row pair set piece moment setting
    atmosphere activity place space distance time day one other others presence position look attention line scenery
    event experience environment location surroundings appearance color colour shape size detail item object thing
    focus subject end point level state use form order body individual figure being home play work
    """.split()  # noqa: SIM905 (a list of a hundred quoted words is harder to read)
)


@dataclass(frozen=True)
class Chunk:
    """A noun phrase: its words, as written, and their characters `text[span[0]:span[1]]`.

    Args:
        phrase: the words.
        span: in the text.
        noun: its head, singular.
        plural: whether it means several.
    """

    phrase: str
    span: tuple[int, int]
    noun: str
    plural: bool


def noun_phrases(text: str, lexicon: Lexicon) -> Iterator[Chunk]:
    """The phrases of a text in order; they do not overlap.

    >>> from openferret.data.words.lexicon import load_lexicon
    >>> text = "The image shows a young man riding his red bike near two dogs."
    >>> [chunk.phrase for chunk in noun_phrases(text, load_lexicon())]
    ['a young man', 'his red bike', 'two dogs']
    """
    words = [*_WORD.finditer(text)]
    end = 0
    for place, word in enumerate(words):
        if word.start() < end or not _is_noun(word.group(), lexicon):
            continue
        last = place
        while last + 1 < len(words) and _joined(text, words[last], words[last + 1], lexicon):
            last += 1
        stop = words[last].end()
        start, ends = last_noun_phrase(text[end:stop])
        start, found = end + start, end + ends
        start = max(_trimmed(text, start, stop, lexicon), end)
        end = stop
        phrase = text[start:stop]
        noun = lexicon.word(phrase)
        if found == stop and noun in lexicon.nouns and noun not in _NOT_POINTED_AT:
            yield Chunk(phrase, (start, stop), noun, _is_several(phrase, words[last].group(), lexicon))


def _is_noun(word: str, lexicon: Lexicon) -> bool:
    return (
        not word.endswith("'s") and lexicon.noun(word) is not None and lexicon.group_of(word.lower()) is None
    )


def _joined(text: str, word: re.Match[str], following: re.Match[str], lexicon: Lexicon) -> bool:
    """Whether two nouns make one; somebody followed by what may be a verb ("the man pets a dog") does not."""
    one, other = word.group().lower(), following.group().lower()
    if text[word.end() : following.start()] != " " or not _is_noun(other, lexicon):
        return False
    if f"{one} {lexicon.word(other)}" in lexicon.nouns or lexicon.word(other) == other:
        return True
    return not (lexicon.is_person(one) or lexicon.may_be("animal", one))


def _trimmed(text: str, start: int, stop: int, lexicon: Lexicon) -> int:
    """Where the phrase begins without words before it that cannot be part of it."""
    phrase = text[start:stop]
    if len(without_determiner(phrase)) < len(phrase.lower()):
        return start
    words = [*_WORD.finditer(phrase)]
    kept = len(words) - 1
    while kept > 0 and _may_precede(words[kept - 1].group().lower(), lexicon):
        kept -= 1
    return start + words[kept].start() if words else start


def _may_precede(word: str, lexicon: Lexicon) -> bool:
    return lexicon.group_of(word) is not None or word in lexicon.opposites or _is_noun(word, lexicon)


def _is_several(phrase: str, head: str, lexicon: Lexicon) -> bool:
    return lexicon.word(head) != head.lower() and not phrase.lower().startswith(("a ", "an ", "one "))
