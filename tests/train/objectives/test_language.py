"""Dialogues that share a prefix are learned exactly as if each stood alone behind it."""

import pytest
import torch

from openferret.data.formats.labels import label_conversation
from openferret.data.schema import Sample, Turn
from openferret.train.batches.batch import IGNORED, Row
from openferret.train.batches.collate import Collator
from openferret.train.batches.wording import DialogueWriter
from openferret.train.objectives.language import LanguageObjective, token_losses
from openferret.train.objectives.module import TrainingModule


def rows_of(making, loaded, numbers=(1, 2), kinds=(0, 1, 2, 3, 4)):
    writer = DialogueWriter(loaded.processor, loaded.model.config)
    rows = [
        Row(
            making.picture(number),
            (making.WIDTH, making.HEIGHT),
            None,
            tuple(writer.write(making.sample(number, kind), 0) for kind in kinds),
        )
        for number in numbers
    ]
    return rows, Collator(loaded.processor, tuple(writer.prefix()), None, (LanguageObjective(),), 2048)


def alone(loaded, row, dialogue):
    """The same dialogue through the model's own forward pass, which generation uses too: sum of its losses."""
    processor, model = loaded.processor, loaded.model
    prefix = processor.tokenize(processor.expand_pictures(processor.conversation.opening))
    ids = torch.tensor([prefix + list(dialogue.ids)])
    given = {}
    if dialogue.regions:
        geometry = processor.region_geometry(dialogue.regions, [row.size] * len(dialogue.regions))
        given = {
            "region_points": torch.from_numpy(geometry.points),
            "region_anchors": [torch.from_numpy(one) for one in geometry.anchors],
            "region_neighbors": [torch.from_numpy(one) for one in geometry.neighbors],
            "region_picture": torch.zeros(len(dialogue.regions), dtype=torch.long),
        }
    pixels = torch.from_numpy(processor.pixel_values([row.image]))
    logits = model(input_ids=ids, pixel_values=pixels, **given).logits[0, len(prefix) :]
    if model.config.use_locator:
        logits = logits[:, : model.config.first_location_token_id]
    labels = torch.tensor(dialogue.labels)
    return torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")


@pytest.mark.parametrize("name", ["kit", "paper"])
def test_shared_prefix_gives_the_losses_of_each_dialogue_alone(tiny, making, name):
    loaded = tiny.loaded(name)
    rows, collate = rows_of(making, loaded)
    batch = collate(rows)
    with torch.no_grad():
        seen = loaded.model.model.encode_pictures(batch.pixels)
        together = token_losses(loaded.model, batch, seen).sum()
        apart = sum(alone(loaded, row, one) for row in rows for one in row.dialogues)
    assert together > 0
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-4)


def test_labels_of_the_papers_words_are_the_references(tiny):
    loaded = tiny.loaded("paper")
    turns = (
        Turn("user", "what is a dog ?"),
        Turn("assistant", "a red ball."),
        Turn("user", "how many?"),
        Turn("assistant", "one."),
    )
    sample = Sample("1", None, turns)
    dialogue = DialogueWriter(loaded.processor, loaded.model.config).write(sample, 0)
    pairs = [(turns[0].text, turns[1].text), (turns[2].text, turns[3].text)]
    ids, labels = label_conversation(loaded.processor, pairs, picture=False)
    assert list(dialogue.ids) == ids
    assert list(dialogue.labels) == [*labels[1:], IGNORED]


def test_kit_learns_phrases_and_not_the_locators_numbers(tiny, making):
    loaded = tiny.loaded("kit")
    dialogue = DialogueWriter(loaded.processor, loaded.model.config).write(making.sample(1, 1), 0)
    words = loaded.processor.tokenizer
    learned = words.decode([one for one in dialogue.labels if one != IGNORED])
    assert learned.startswith("<phrase>")
    assert "<box>" in learned
    assert "<loc_" not in learned
    assert "<loc_" in words.decode(list(dialogue.ids))


def test_words_that_look_like_marks_stay_words(tiny, making):
    loaded = tiny.loaded("kit")
    from dataclasses import replace

    sample = making.sample(1, 2)
    evil = replace(sample, turns=(Turn("user", "<image>\nwhat is <region_fea> <loc_1>?"), sample.turns[1]))
    dialogue = DialogueWriter(loaded.processor, loaded.model.config).write(evil, 0)
    config = loaded.model.config
    special = {config.image_token_id, config.region_token_id, config.first_location_token_id + 1}
    assert not special & set(dialogue.ids)


@pytest.mark.parametrize("kinds", [(2,), (0, 1)])
@pytest.mark.parametrize("numbers", [(), (1,)])
def test_every_batch_touches_the_same_weights(tiny, making, numbers, kinds):
    """A process whose rows have no region, or no rows at all, must not keep the others waiting."""
    loaded = tiny.loaded("paper")
    rows, collate = rows_of(making, loaded, numbers, kinds)
    batch = collate(rows)
    loaded.model.requires_grad_(True)
    module = TrainingModule(loaded.model, (LanguageObjective(),), {}, half=False)
    module.zero_grad()
    total, _ = module(batch, module.counts(batch))
    total.backward()
    untouched = [
        name for name, one in module.named_parameters() if one.grad is None and "vision_tower" not in name
    ]
    module.zero_grad()
    assert untouched == []
    assert bool(total.isfinite())
