"""Captions with boxes on Flickr30k Entities: are the words right, are the things there, and are they where?

BLEU-4 and CIDEr (coco-caption's, which is CIDEr-D) against the picture's captions; F1_all and F1_loc as
Grounded Visual Description defines them, over head nouns, with the hull of each phrase's boxes. With `java`
tokens are coco-caption's own, and its METEOR and SPICE are given too. With `frequent_in` F1_all and F1_loc are also
given over the most frequent classes only, as the published figures are: among all classes one that captions name once
counts as much as "man".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from openferret import prompts
from openferret.errors import InputError
from openferret.eval.metrics.bootstrap import Estimate, FloatArray, accuracy, divide, estimate, sum_by_picture
from openferret.eval.metrics.boxes import BoxNumbers, best_overlap, hull
from openferret.eval.metrics.captions import Cider, bleu4, bleu_counts, rouge_l, tokenize
from openferret.eval.metrics.coco_java import CocoJava, find_coco_java
from openferret.eval.metrics.meteor import has_meteor, meteor
from openferret.eval.metrics.visual_description import Reference, class_counts, f1_all, f1_loc
from openferret.eval.questions import Question, Replies, Reply
from openferret.eval.scores import Benchmark, Case, Figure, Score
from openferret.eval.tasks.entities import Picture, Sentence, picture_files, read_pictures
from openferret.nouns import head_noun

VERSION = 2
FREQUENT = 480
"""Classes of Grounded Visual Description's vocabulary for Flickr30k Entities."""
_METEOR = "METEOR (NLTK's: words and stems)"
_NO_JAVA = "METEOR 1.5 and SPICE need Java: give --java where it and pycocoevalcap are."


def load(
    root: Path, images: Path, split_file: Path, java: bool = False, frequent_in: Path | None = None
) -> Benchmark:
    """Reads the split; pictures without a caption are left out.

    Args:
        root: folder that holds Annotations and Sentences.
        images: folder of the pictures.
        split_file: picture names, one a line.
        java: take coco-caption's tokens, METEOR and SPICE.
        frequent_in: another split, as train.txt: F1_all and F1_loc also over the `FREQUENT` head nouns that it names
            most.
    """
    tools = find_coco_java() if java else None
    common = frequent_nouns(read_pictures(root, frequent_in)) if frequent_in else None
    pictures = {one.name: one for one in read_pictures(root, split_file) if one.sentences}
    order = {name: index for index, name in enumerate(pictures)}
    grounded = {name: [_reference(one) for one in picture.sentences] for name, picture in pictures.items()}
    names = sorted({key for several in grounded.values() for one in several for key in one.objects})
    classes = {name: index for index, name in enumerate(names)}

    def score(asked: Sequence[Question], replies: Replies) -> Score:
        references, cut = _cut_captions(pictures, tools), tools.tokenize if tools else _cut_each
        cider = Cider(list(references.values()))
        said = [(one.picture, replies.get(one.id, Reply(None))) for one in asked]
        keys = [key for key, _ in said]
        tokens = cut([reply.text for _, reply in said])
        named = [named_objects(reply) for _, reply in said]
        pairs = list(zip(keys, tokens, strict=True))
        bleu = sum_by_picture(keys, [bleu_counts(words, references[key]) for key, words in pairs])
        consensus = [100 * cider.cider_d(words, order[key]) for key, words in pairs]
        plain = [100 * cider.cider(words, order[key]) for key, words in pairs]
        overlap = [rouge_l(words, references[key]) for key, words in pairs]
        counted = np.stack(
            [class_counts(objects, grounded[key], classes) for key, objects in zip(keys, named, strict=True)]
        )
        one_list = [_picture_counts(o, grounded[k]) for k, o in zip(keys, named, strict=True)]
        n = len(asked)
        wanted = [references[key] for key in keys]
        further, notes = _java_figures(tools, keys, tokens, wanted) if tools else ([], [_NO_JAVA])
        if common is not None:
            further = [*_frequent_figures(counted, [name in common for name in classes], n), *further]
        if has_meteor():
            further.append(Figure(_METEOR, "strict", accuracy(keys, list(map(meteor, tokens, wanted)))))
        figures = (
            Figure("BLEU-4", "official", estimate(bleu, bleu4, n)),
            Figure("CIDEr (coco-caption's: CIDEr-D)", "official", accuracy(keys, consensus), "points"),
            Figure("F1_all", "official", estimate(counted, f1_all, n)),
            Figure("F1_loc", "official", estimate(counted, f1_loc, n)),
            Figure("F1 of named and boxed things", "strict", estimate(np.array(one_list), _micro_f1, n)),
            Figure("ROUGE-L", "strict", accuracy(keys, overlap)),
            Figure("CIDEr, not clipped", "strict", accuracy(keys, plain), "points"),
            *further,
        )
        cases = tuple(
            _case(pictures[key], reply, value) for (key, reply), value in zip(said, consensus, strict=True)
        )
        return Score(figures, (sum(bool(words) for words in tokens), n), cases, (), tuple(notes))

    return Benchmark(
        "grounded-caption",
        VERSION,
        {"question": prompts.DESCRIBE},
        tuple(Question(name, name, "describe", prompts.DESCRIBE) for name in pictures),
        picture_files(images, list(pictures.values())),
        score,
        (f"Classes{'' if java else ', tokens'} and lemmas are ours: near the published figures, not equal.",),
    )


def frequent_nouns(pictures: Iterable[Picture], most: int = FREQUENT) -> frozenset[str]:
    """The head nouns that captions name most often with boxes; of those named equally often the first by alphabet."""
    counted = Counter(
        head
        for picture in pictures
        for sentence in picture.sentences
        for target in sentence.targets
        if (head := head_noun(target.words))
    )
    return frozenset(sorted(counted, key=lambda head: (-counted[head], head))[:most])


def _frequent_figures(counted: FloatArray, frequent: Sequence[bool], n: int) -> list[Figure]:
    by_class = counted.reshape(len(counted), len(frequent), -1)
    kept = by_class[:, np.array(frequent, bool)].reshape(len(counted), -1)
    name = f"over the {FREQUENT} most frequent classes"
    return [
        Figure(f"F1_all {name}", "strict", estimate(kept, f1_all, n)),
        Figure(f"F1_loc {name}", "strict", estimate(kept, f1_loc, n)),
    ]


def _cut_each(texts: Sequence[str]) -> list[list[str]]:
    return [tokenize(one) for one in texts]


def _cut_captions(pictures: Mapping[str, Picture], tools: CocoJava | None) -> dict[str, list[list[str]]]:
    """The tokens of every picture's captions, all cut at once: a start of Java takes seconds."""
    texts = [sentence.text for picture in pictures.values() for sentence in picture.sentences]
    tokens = iter(tools.tokenize(texts) if tools else _cut_each(texts))
    return {name: [next(tokens) for _ in picture.sentences] for name, picture in pictures.items()}


def _java_figures(
    tools: CocoJava, keys: Sequence[str], tokens: Sequence[list[str]], wanted: Sequence[list[list[str]]]
) -> tuple[list[Figure], list[str]]:
    together, each = tools.meteor(tokens, wanted)
    spread = accuracy(keys, each)
    # The whole is no mean of its parts: its interval is that of their mean, moved.
    shift = 0.0 if spread.value is None else together - spread.value
    low, high = (None if end is None else end + shift for end in (spread.low, spread.high))
    figures = [Figure("METEOR (1.5)", "official", Estimate(together, low, high, spread.n))]
    try:
        scores = [
            (key, one) for key, one in zip(keys, tools.spice(tokens, wanted), strict=True) if one == one
        ]
    except InputError as error:
        return figures, [f"SPICE is not given: {error}."]
    pictures, values = [key for key, _ in scores], [one for _, one in scores]
    return [*figures, Figure("SPICE", "official", accuracy(pictures, values))], []


def named_objects(reply: Reply) -> dict[str, BoxNumbers | None]:
    """Head nouns of the mentions -> the hull of the first mention's boxes, None without boxes."""
    named: dict[str, BoxNumbers | None] = {}
    for mention in reply.answer.mentions if reply.answer else ():
        head = head_noun(mention.phrase)
        if head:
            named.setdefault(head, hull([box.normalized for box in mention.boxes]) if mention.boxes else None)
    return named


def _reference(sentence: Sentence) -> Reference:
    objects: dict[str, list[BoxNumbers]] = {}
    for target in sentence.targets:
        head = head_noun(target.words)
        if head:
            objects.setdefault(head, [target.hull])
    words = {head_noun(word) for word in tokenize(sentence.text)}
    return Reference(objects, frozenset(words - objects.keys()))


def _picture_counts(
    named: dict[str, BoxNumbers | None], references: Sequence[Reference]
) -> tuple[float, float, float]:
    """Right, named and wanted things of a picture, each once; all things weigh the same."""
    wanted: dict[str, list[BoxNumbers]] = {}
    for one in references:
        for name, boxes in one.objects.items():
            wanted.setdefault(name, []).extend(boxes)
    boxed = {name: box for name, box in named.items() if box is not None}
    right = sum(name in wanted and best_overlap([box], wanted[name]) > 0.5 for name, box in boxed.items())
    return float(right), float(len(boxed)), float(len(wanted))


def _micro_f1(sums: FloatArray) -> FloatArray:
    return divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def _case(picture: Picture, reply: Reply, value: float) -> Case:
    truth = dict.fromkeys(target.hull for one in picture.sentences[:1] for target in one.targets)
    return Case(
        picture.name,
        picture.name,
        "Describe the picture.",
        value,
        reply.text,
        picture.sentences[0].text,
        tuple(reply.boxes),
        tuple(truth),
    )
