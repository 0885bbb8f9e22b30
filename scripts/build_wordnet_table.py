"""Make src/openferret/data/words/wordnet_relations.json.gz: how common picture nouns and adjectives are related.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet
    python scripts/build_wordnet_table.py --wordnet wordnet/usr/share/wordnet \
        --phrases flickr30k_entities/Sentences --categories lvis_v1_val.json

Which nouns are common is counted in the phrases of Flickr30k Entities and LVIS's list of categories; what they
mean is WordNet 3.0. The same inputs give the same bytes. Needs no more than Python's library and OpenFerret.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from openferret.flickr30k import MARKUP
from openferret.nouns import head_noun, singular

OUT = Path(__file__).parents[1] / "src/openferret/data/words/wordnet_relations.json.gz"
# WordNet's lexicographer files of what can be seen: animal, artifact, body, food, object, person, plant.
VISIBLE = {"05", "06", "08", "13", "17", "18", "20"}
# Above these a word names too much to be told from anything: "object", "entity", "artifact".
TOO_WIDE = """
    entity physical_entity object physical_object whole artifact unit organism living_thing causal_agent matter
    thing substance instrumentality device conveyance body_part part structure covering solid food natural_object
    abstraction equipment implement commodity consumer_goods container
    covering_material diversion way unit_of_measurement
""".split()  # noqa: SIM905
# Words whose first visible sense is not what pictures show; the sense is named by one of its synonyms.
MEANT = {
    "man": "adult_male",
    "woman": "adult_female",
    "boy": "male_child",
    "girl": "little_girl",
    "guy": "hombre",
    "person": "individual",
    "child": "youngster",
    "baby": "infant",
    "animal": "beast",
    "plant": "flora",
    "mouse": "computer_mouse",
    "train": "railroad_train",
}
# Words for people that must be known however rare they are: an unknown one is taken for no person.
PEOPLE = """
    wife husband bride groom mother father mom dad grandmother grandfather aunt uncle niece nephew sister brother lady
    gentleman waiter waitress actor actress king queen nun monk priest businessman businesswoman policewoman teenager
    toddler infant girlfriend boyfriend cowboy cowgirl fisherman sailor clown dancer singer musician doctor nurse chef
    teacher student soldier surfer skier swimmer runner cyclist golfer pitcher catcher referee farmer photographer
""".split()  # noqa: SIM905
# Ends of phrases that WordNet takes for people, animals or clothes, and nobody else does.
NEVER = {"stunt", "romp", "type", "a line", "feature", "flip", "pant", "treat", "young", "farm animal"}
GROUPS = {
    "colours": """red orange yellow green blue purple pink brown black white gray grey tan beige maroon turquoise
        golden silver""",
    "materials": """wooden metal plastic glass leather brick stone concrete paper cotton denim woolen ceramic
        rubber steel straw""",
    "patterns": "striped plaid plain checkered floral polka-dot",
    "numbers": "one two three four five six seven eight nine ten",
}
# Kinds of people that exclude each other, by the synsets that begin them (named by words they alone have).
KINDS_OF_PEOPLE = {
    "male": [
        *("male male_person", "man adult_male", "male_child boy", "husband hubby", "father male_parent"),
        *("son boy", "brother blood_brother", "grandfather gramps"),
    ],
    "female": [
        *(
            "female female_person",
            "woman adult_female",
            "female_child girl little_girl",
            "wife married_woman",
        ),
        *("mother female_parent", "daughter girl", "sister sis", "grandma grandmother"),
    ],
    "adult": ["man adult_male", "woman adult_female", "wife married_woman", "husband hubby"],
    "child": ["child kid youngster minor shaver", "baby babe infant"],
}
SEEN_ADJECTIVES = """
    big small large little long short tall young old wet dry open closed empty full clean dirty dark light bright
    thick thin wide narrow high low round square straight curly smooth rough loose tight indoor outdoor cloudy clear
    sunny happy sad awake asleep
""".split()  # noqa: SIM905


@dataclass(frozen=True)
class Synset:
    """One meaning: its words, what it is a kind of, its parts' wholes, and the kind of file it is in."""

    key: str
    words: tuple[str, ...]
    above: tuple[str, ...]
    lexicographer: str


def main() -> None:
    """Reads the options, writes the table, says how large it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun and index.noun")
    parser.add_argument("--phrases", type=Path, required=True, help="Sentences folder of Flickr30k Entities")
    parser.add_argument("--categories", type=Path, required=True, help="an LVIS json")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--largest", type=int, default=2600, help="most nouns")
    options = parser.parse_args()
    table = build(options.wordnet, options.phrases, options.categories, options.largest)
    packed = gzip.compress(
        json.dumps(table, separators=(",", ":"), sort_keys=True).encode(), compresslevel=9, mtime=0
    )
    options.out.write_bytes(packed)
    print(f"{len(table['nouns'])} nouns, {len(table['synsets'])} synsets, {len(packed)} bytes")


def build(wordnet: Path, phrases: Path, categories: Path, largest: int) -> dict[str, object]:
    """The table; its parts are told in openferret.data.words.lexicon."""
    synsets = dict(read_synsets(wordnet / "data.noun"))
    senses = dict(read_senses(wordnet / "index.noun"))
    counts, meant = count_nouns(phrases), read_categories(categories)
    chosen: dict[str, Synset] = {}
    for word in sorted(
        {*counts, *meant, *PEOPLE}, key=lambda word: (word not in PEOPLE, -counts[word], word)
    ):
        synset = picture_sense(word, senses, synsets, meant.get(word))
        if synset is not None and word not in NEVER and len(chosen) < largest:
            chosen[word] = synset
    chains = {word: ancestors(synset, synsets) for word, synset in chosen.items()}
    kinds = people(synsets)
    needed = {key for chain in chains.values() for key in chain}
    nouns = {}
    for word, synset in chosen.items():
        entry: dict[str, object] = {"is": synset.key, "above": list(chains[word]), "count": counts[word]}
        if similar := peers(word, chosen, chains, counts):
            entry["peers"] = similar
        if kind := [name for name, keys in kinds.items() if {synset.key, *chains[word]} & keys]:
            entry["kind"] = kind
        nouns[word] = entry
    needed |= {synset.key for synset in chosen.values()}
    adjectives = {word for word, _ in read_senses(wordnet / "index.adj")} | set(senses)
    groups = {
        name: [one for one in words.split() if one.replace("-", "_") in adjectives or one == "polka-dot"]
        for name, words in GROUPS.items()
    }
    return {
        "source": "WordNet 3.0, copyright 2006 by Princeton University; all rights reserved",
        "synsets": {key: [tidy(word) for word in synsets[key].words] for key in sorted(needed)},
        "nouns": nouns,
        "opposites": opposites(wordnet / "data.adj"),
        "groups": groups,
    }


def read_synsets(path: Path) -> Iterable[tuple[str, Synset]]:
    """The meanings in a data file of WordNet (its manual: wndb(5))."""
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split(" | ", 1)[0].split()
        key, lexicographer, count = fields[0], fields[1], int(fields[3], 16)
        words = tuple(fields[4 : 4 + 2 * count : 2])
        pointers = fields[5 + 2 * count :]
        above = tuple(
            pointers[at + 1] for at in range(0, len(pointers) - 3, 4) if pointers[at] in {"@", "@i"}
        )
        yield key, Synset(key, words, above, lexicographer)


def read_senses(path: Path) -> Iterable[tuple[str, tuple[str, ...]]]:
    """A word's meanings, the most frequent first."""
    for line in path.read_text(encoding="latin-1").splitlines():
        if not line.startswith("  "):
            fields = line.split()
            yield fields[0], tuple(fields[-int(fields[2]) :])


def count_nouns(folder: Path) -> Counter[str]:
    """How often phrases end in a noun, or in two words that may be one ("fire truck")."""
    counts: Counter[str] = Counter()
    for path in sorted(folder.glob("*.txt")):
        for match in MARKUP.finditer(path.read_text(encoding="utf-8")):
            words = match.group(3).lower().split()
            head = head_noun(match.group(3))
            counts[head] += 1
            for first, second in pairwise(words):
                if singular(second) == head:
                    counts[f"{first} {head}"] += 1
    return Counter({word: count for word, count in counts.items() if count >= 3 and len(word) > 2})


def read_categories(path: Path) -> dict[str, tuple[str, int]]:
    """LVIS's names and their synsets: {"tiger": ("tiger", 2)}."""
    meant = {}
    for one in json.loads(path.read_text(encoding="utf-8"))["categories"]:
        lemma, _, number = one["synset"].rsplit(".", 2)
        if number.isdigit():
            for name in [one["name"], *one["synonyms"]]:
                word = name.split("_(")[0].replace("_", " ").replace("-", " ").lower()
                meant.setdefault(word, (lemma.lower(), int(number)))
    return meant


def picture_sense(
    word: str,
    senses: dict[str, tuple[str, ...]],
    synsets: dict[str, Synset],
    meant: tuple[str, int] | None,
) -> Synset | None:
    """The meaning a word has in pictures: the one that is named, else the first visible of the two commonest."""
    known = senses.get(word.replace(" ", "_")) or senses.get(word.replace(" ", "-")) or ()
    if word in MEANT:
        return next((synsets[key] for key in known if MEANT[word] in synsets[key].words), None)
    if meant is not None and len(senses.get(meant[0], ())) >= meant[1]:
        return synsets[senses[meant[0]][meant[1] - 1]]
    plain = not set(word.split()) & {*SEEN_ADJECTIVES, *GROUPS["colours"].split()}
    visible = [synsets[key] for key in known[:2] if synsets[key].lexicographer in VISIBLE]
    return visible[0] if visible and plain else None


def ancestors(synset: Synset, synsets: dict[str, Synset]) -> tuple[str, ...]:
    """What a meaning is a kind of, nearest first, up to what is too wide to tell anything."""
    found: dict[str, None] = {}
    level = list(synset.above)
    while level:
        kept = [key for key in level if synsets[key].words[0] not in TOO_WIDE]
        found.update(dict.fromkeys(kept))
        level = [above for key in kept for above in synsets[key].above if above not in found]
    return tuple(found)


def peers(
    word: str, chosen: dict[str, Synset], chains: dict[str, tuple[str, ...]], counts: Counter[str]
) -> list[str]:
    """Up to ten co-hyponyms: near in the tree, and common; people only under something nearer than "person"."""
    own = chains[word]
    depth = {key: index for index, key in enumerate(own[:4])}
    found = []
    for other, synset in chosen.items():
        if synset.key == chosen[word].key or synset.key in own or chosen[word].key in chains[other]:
            continue
        shared = [
            depth[key] + at
            for at, key in enumerate(chains[other][:4])
            if key in depth and key != chosen["person"].key
        ]
        if shared:
            found.append((min(shared) - 1.5 * math.log10(1 + counts[other]), other))
    seen: dict[str, str] = {}
    for _, other in sorted(found):
        seen.setdefault(chosen[other].key, other)
    return list(seen.values())[:10]


def people(synsets: dict[str, Synset]) -> dict[str, set[str]]:
    """The synsets that begin each kind of people."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for name, starts in KINDS_OF_PEOPLE.items():
        for start in starts:
            wanted = set(start.split())
            found = [
                one for one in synsets.values() if wanted <= set(one.words) and one.lexicographer == "18"
            ]
            if not found:
                raise SystemExit(f"this WordNet has no synset with the words {start}")
            kinds[name] |= {one.key for one in found}
    return kinds


def opposites(path: Path) -> dict[str, list[str]]:
    """Antonyms among adjectives that can be seen."""
    found: dict[str, set[str]] = defaultdict(set)
    lines = [
        line.split(" | ", 1)[0].split()
        for line in path.read_text(encoding="latin-1").splitlines()
        if not line.startswith("  ")
    ]
    words = {}
    for fields in lines:
        count = int(fields[3], 16)
        words[fields[0]] = [word.split("(")[0] for word in fields[4 : 4 + 2 * count : 2]]
    for fields in lines:
        count = int(fields[3], 16)
        pointers = fields[5 + 2 * count :]
        for at in range(0, len(pointers) - 3, 4):
            kind, target, _, ends = pointers[at : at + 4]
            if kind == "!" and target in words:
                first = words[fields[0]][int(ends[:2], 16) - 1]
                second = words[target][int(ends[2:], 16) - 1]
                if first in SEEN_ADJECTIVES and second in SEEN_ADJECTIVES:
                    found[first].add(second)
    return {word: sorted(others) for word, others in sorted(found.items())}


def tidy(word: str) -> str:
    """A word as people write it."""
    return word.replace("_", " ").lower()


if __name__ == "__main__":
    main()
