"""CHAIR: objects that a caption names and that are not on the picture (arXiv 1809.02156).

Words are looked up in a list of synonyms for COCO's 80 classes, longest first, plurals folded. The list here
is our own; the published one can be given as a file and gives the published figures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from openferret.nouns import singular

# One class a line: COCO's name, then other words for it. No word that also means something else.
SYNONYMS = """
person, man, woman, boy, girl, child, kid, baby, toddler, adult, guy, lady, gentleman, human, player, skier, \
surfer, snowboarder, skateboarder, rider, pedestrian, crowd, people, batter, catcher, pitcher, umpire, chef, \
officer, couple
bicycle, bike, cycle
car, automobile, sedan, suv, taxi, cab, minivan, hatchback
motorcycle, motorbike, moped, motor bike, scooter
airplane, plane, aeroplane, jet, aircraft, jetliner, airliner
bus, minibus, school bus, double decker
train, locomotive, tram, subway train
truck, lorry, pickup, fire engine, semi
boat, ship, sailboat, canoe, kayak, yacht, ferry, rowboat
traffic light, stoplight, traffic signal, stop light
fire hydrant, hydrant
stop sign
parking meter
bench
bird, seagull, pigeon, duck, goose, parrot, swan, owl, eagle, sparrow
cat, kitten, kitty
dog, puppy, poodle, retriever, terrier
horse, pony, foal, stallion
sheep, lamb, ram, ewe
cow, cattle, calf, ox, bull, heifer
elephant
bear, polar bear, grizzly
zebra
giraffe
backpack, rucksack, knapsack
umbrella, parasol
handbag, purse, pocketbook
tie, necktie, bow tie
suitcase, luggage, briefcase
frisbee
skis, ski
snowboard
sports ball, ball, baseball, basketball, football, soccer ball, tennis ball, volleyball
kite
baseball bat, bat
baseball glove, mitt, baseball mitt
skateboard
surfboard
tennis racket, racket, racquet
bottle
wine glass, wineglass
cup, mug, teacup
fork
knife
spoon
bowl
banana
apple
sandwich, burger, hamburger, cheeseburger, sub
orange
broccoli
carrot
hot dog, hotdog
pizza
donut, doughnut
cake, cupcake, cheesecake
chair, armchair, stool
couch, sofa, loveseat
potted plant, houseplant, plant
bed
dining table, table, desk
toilet
tv, television, tv monitor
laptop, notebook computer
mouse, computer mouse
remote, remote control
keyboard
cell phone, cellphone, mobile phone, smartphone, phone
microwave, microwave oven
oven, stove
toaster
sink
refrigerator, fridge
book
clock
vase
scissors
teddy bear, stuffed bear
hair drier, hair dryer, blow dryer
toothbrush
"""

_WORD = re.compile(r"[a-z0-9]+")


def read_synonyms(text: str) -> dict[tuple[str, ...], str]:
    """Lines of comma-separated words, the class first -> class by folded words.

    >>> read_synonyms("dog, puppy")[("puppy",)]
    'dog'
    """
    table: dict[tuple[str, ...], str] = {}
    for line in text.splitlines():
        words = [word.strip().lower() for word in line.split(",") if word.strip()]
        for word in words:
            table.setdefault(_fold(word), words[0])
    table.pop((), None)
    return table


@cache
def own_synonyms() -> Mapping[tuple[str, ...], str]:
    """The list above."""
    return read_synonyms(SYNONYMS)


def objects_named(text: str, synonyms: Mapping[tuple[str, ...], str]) -> list[str]:
    """Classes that a text names, as often as it names them; the longest words win.

    "A hot dog" names no dog, "a toilet seat" a toilet.

    >>> objects_named("Two men eat hot dogs on a couch.", own_synonyms())
    ['person', 'hot dog', 'couch']
    """
    longest = max(map(len, synonyms), default=0)
    words = _fold(text)
    found, index = [], 0
    while index < len(words):
        for size in range(min(longest, len(words) - index), 0, -1):
            name = synonyms.get(words[index : index + size])
            if name is not None:
                found.append(name)
                index += size
                break
        else:
            index += 1
    return found


def _fold(text: str) -> tuple[str, ...]:
    return tuple(singular(word) for word in _WORD.findall(text.lower()[:100_000]))
