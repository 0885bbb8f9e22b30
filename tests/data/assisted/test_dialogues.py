import re
import threading
from dataclasses import replace

import pytest

from openferret.data.assisted.context import write_context
from openferret.data.assisted.dialogues import Assistant, estimate_run, read_dialogues, write_dialogues
from openferret.data.assisted.prompts import load_prompts
from openferret.data.assisted.verification import Rejected, verify_dialogue
from openferret.data.endpoints.calling import Caller
from openferret.data.endpoints.spending import Ledger, Prices
from openferret.data.files.kept import Kept
from openferret.data.marks import grounded_phrases
from openferret.data.records import AnnotatedObject, Caption, Record, RegionDescription, Relationship
from openferret.data.schema import PictureReference
from openferret.data.templates.drafts import Draft
from openferret.data.words.lexicon import load_lexicon
from openferret.errors import InputError
from openferret.eval.transport import ChatServer
from openferret.regions import Box

from ..scripted import completion, scripted

DOG, MAN = Box(100, 100, 300, 300), Box(500, 50, 800, 950)
GOOD = (
    "Question: What is at [0.100, 0.100, 0.300, 0.300]?\n"
    "Answer: It is a dog [0.100, 0.100, 0.300, 0.300] beside a man [0.500, 0.050, 0.800, 0.950]."
)


def record(number=0):
    return Record(
        PictureReference(f"{number}.jpg", 1000, 1000, "mine", str(number)),
        objects=(AnnotatedObject("1", DOG, ("dog",)), AnnotatedObject("2", MAN, ("man",))),
        relationships=(Relationship(0, "beside", 1),),
        descriptions=(RegionDescription(MAN, "a man in red"),),
        captions=(Caption(f"A dog and a man, number {number}."),),
    )


def verify(text, finished=True):
    one = record()
    lexicon = load_lexicon()
    context = write_context(one, lexicon)
    draft = Draft(one, "dialogue", "0", 0)
    return verify_dialogue(text, context, draft, lexicon, finished), draft


def assistant(url, tmp_path=None, refine=True, prices=None, **settings):
    ledger, stop = settings.pop("ledger", Ledger()), threading.Event()
    cache = Kept(tmp_path / "cache.jsonl", "request") if tmp_path else None

    def asks(model):
        server = ChatServer(url, model, timeout=30)
        return Caller(
            server, ledger, prices or Prices(), cache=cache, stop=stop, **({"pause": 0.01} | settings)
        )

    return Assistant(asks("first"), asks("second") if refine else None, load_prompts())


def test_the_context_tells_all_of_it():
    text = write_context(record(), load_lexicon()).text
    assert "Object 0 : dog at [0.100, 0.100, 0.300, 0.300]." in text
    assert "object 0 : dog -> beside -> object 1 : man." in text
    assert "Region Description at [0.500, 0.050, 0.800, 0.950] : a man in red" in text
    assert text.endswith("A dog and a man, number 0.")


def test_a_record_that_tells_too_little_has_none():
    assert write_context(Record(PictureReference("1.jpg", 10, 10, "m", "1")), load_lexicon()) is None


def test_a_good_dialogue_becomes_marks():
    verified, draft = verify(GOOD)
    assert verified.turns[0].text == "What is at <region:0>?"
    assert verified.turns[1].text == "It is <phrase>a dog <box:0> beside <phrase>a man <box:1>."
    assert draft.conversation(verified.turns).regions == (DOG, MAN)
    assert verified.repairs == ()


@pytest.mark.parametrize(
    ("text", "repair"),
    [
        (GOOD.replace("0.100, 0.100, 0.300, 0.300", "100, 100, 300, 300"), "thousandths"),
        (GOOD.replace("0.100, 0.100, 0.300, 0.300", "0.300, 0.300, 0.100, 0.100"), "order"),
        (GOOD.replace("0.100, 0.100, 0.300, 0.300", "0.11, 0.09, 0.31, 0.29"), "moved"),
        ("```\n" + GOOD + "\n```", None),
        ("Sure! Here it is:\n\n" + GOOD.replace("Question", "**Question 1**"), None),
        (GOOD.replace("Question:", "User:").replace("Answer:", "Assistant:"), None),
        ('[{"question": "Where is the dog?", "answer": "The dog [0.1, 0.1, 0.3, 0.3]."}]', "JSON"),
        (GOOD + "\nQuestion: And now?", None),
    ],
)
def test_form_is_repaired(text, repair):
    verified, draft = verify(text)
    assert DOG in draft.conversation(verified.turns).regions
    assert len(verified.turns) == 2
    assert any(repair in one for one in verified.repairs) if repair else not verified.repairs


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("I am sorry, I cannot.", "format", "no question"),
        ("", "format", "no question"),
        ("Answer: a dog [0.1, 0.1, 0.3, 0.3]", "format", "alternate"),
        (
            GOOD.replace("0.500, 0.050, 0.800, 0.950", "0.850, 0.050, 0.990, 0.200"),
            "box",
            "nothing that it was told",
        ),
        (GOOD.replace("a man [", "a horse ["), "phrase", "horse"),
        (GOOD.replace("It is a dog [", "["), "phrase", "follows no phrase"),
        (GOOD.replace("0.500, 0.050, 0.800, 0.950", "0.5, 0.5"), "format", "2 numbers"),
        (GOOD.replace("0.500, 0.050, 0.800, 0.950", "0.5, 0.05, 0.5, 0.95"), "box", "no area"),
        (GOOD.replace("0.500, 0.050, 0.800, 0.950", "-1, 0.05, 0.5, 0.95"), "box", "outside"),
        (GOOD.replace("0.500, 0.050, 0.800, 0.950", "object 2"), "content", "told"),
        (GOOD.replace("0.500, 0.050, 0.800, 0.950", "somewhere"), "format", "not a box"),
        (GOOD.replace("0.950].", "0.950"), "format", "bracket"),
        ("Question: Who?\nAnswer: A man.", "content", "no box at all"),
        (GOOD.replace("It is", "In the given context it is"), "content", "context"),
        ("Question: a?\nAnswer: b\n" * 20, "format", "more than"),
        ("[" * 5000, "format", "no question"),
        ("Question: " + "[0.1," * 3000 + "\nAnswer: x", "format", "bracket"),
        ("x" * 50_000, "format", "longer"),
    ],
)
def test_what_does_not_hold_is_rejected_with_a_reason(text, kind, reason):
    with pytest.raises(Rejected, match=reason) as rejected:
        verify(text)
    assert rejected.value.kind == kind


def test_a_cut_off_answer_is_left_out():
    verified, _ = verify(GOOD + "\nQuestion: Why?\nAnswer: The dog [0.100, 0.1", finished=False)
    assert len(verified.turns) == 2
    with pytest.raises(Rejected):
        verify(GOOD, finished=False)


def test_marks_in_a_models_words_stay_words():
    verified, _ = verify(GOOD.replace("beside", "beside <box:7>"))
    assert "<\\box:7>" in verified.turns[1].text


def test_dialogues_are_written_refined_and_checked(tmp_path):
    def answer(body, _):
        refining = body["model"] == "second"
        assert ("Dialogue:" in body["messages"][-1]["content"]) == refining
        return GOOD.replace("It is", "This is") if refining else GOOD

    with scripted(answer) as (url, log):
        summary = write_dialogues(map(record, range(5)), tmp_path / "out", assistant(url), workers=3)
    assert (summary.accepted, summary.failed, len(log)) == (5, 0, 10)
    samples = list(read_dialogues(tmp_path / "out"))
    assert [sample.picture.id for sample in samples] == sorted(sample.picture.id for sample in samples)
    assert all(sample.turns[1].text.startswith("This is") for sample in samples)
    assert "first, refined by second; prompts" in samples[0].provenance.generator
    assert [one.phrase for one in grounded_phrases(samples[0].turns[1].text)] == ["a dog", "a man"]


def test_a_bad_refinement_falls_back_to_the_first(tmp_path):
    with scripted(lambda body, _: "no" if body["model"] == "second" else GOOD) as (url, _):
        summary = write_dialogues([record()], tmp_path / "out", assistant(url))
    assert summary.accepted == 1
    assert any("first kept" in one for one in summary.repaired)


def test_the_misbehaving_server_costs_no_record(tmp_path):
    wrong = [(429, {"Retry-After": "0.05"}, b""), (500, {}, b""), (200, {}, b"{"), (200, {}, completion(" "))]

    def answer(_, number):
        return wrong[number // 3 % 4] if number % 3 == 0 else GOOD

    with scripted(answer) as (url, _):
        summary = write_dialogues(map(record, range(12)), tmp_path / "out", assistant(url), workers=4)
    assert (summary.accepted, summary.failed) == (12, 0)


def test_rejected_dialogues_are_kept_with_their_reason(tmp_path):
    with scripted(lambda *_: "I would rather not.") as (url, _):
        summary = write_dialogues([record()], tmp_path / "out", assistant(url, refine=False))
    assert summary.rejected == {"format": 1}
    assert "no question" in (tmp_path / "out" / "dialogues.jsonl").read_text()
    assert list(read_dialogues(tmp_path / "out")) == []


class Killed(BaseException):
    """As Ctrl-C is."""


def test_a_killed_run_goes_on_and_asks_nothing_twice(tmp_path):
    def end_early(summary):
        if summary.accepted == 4:
            raise Killed

    with scripted(lambda *_: GOOD) as (url, log):
        with pytest.raises(Killed):
            write_dialogues(map(record, range(10)), tmp_path, assistant(url, tmp_path), 2, end_early)
        before = len(log)
        assert before < 20
        summary = write_dialogues(map(record, range(10)), tmp_path, assistant(url, tmp_path), 2)
        asked = [(body["model"], body["messages"][-1]["content"]) for _, body in log]
    assert summary.accepted + summary.known == 10
    assert summary.known >= 4
    assert len(set(asked)) == len(asked) == 20
    assert len(list(read_dialogues(tmp_path))) == 10


def test_the_result_does_not_depend_on_the_workers(tmp_path):
    def answer(body, _):
        number = int(re.search(r"number (\d+)", body["messages"][-1]["content"])[1])
        return GOOD.replace("beside", "near" if number % 2 else "beside")

    with scripted(answer) as (url, _):
        for workers in (1, 5):
            write_dialogues(map(record, range(6)), tmp_path / str(workers), assistant(url), workers)
    assert list(read_dialogues(tmp_path / "1")) == list(read_dialogues(tmp_path / "5"))


def test_a_spent_budget_ends_the_run_and_says_so(tmp_path):
    with scripted(lambda *_: GOOD) as (url, log):
        helper = assistant(url, refine=False, ledger=Ledger(most_requests=3))
        summary = write_dialogues(map(record, range(50)), tmp_path, helper, workers=2)
    assert len(log) == 3
    assert summary.accepted == 3
    assert "3 requests" in summary.ended


def test_a_dead_server_ends_the_run(tmp_path):
    helper = assistant("http://127.0.0.1:9/v1", refine=False, tries=1)
    summary = write_dialogues(map(record, range(500)), tmp_path, helper, workers=2)
    assert "in a row" in summary.ended
    assert summary.failed < 60


def test_a_dry_run_asks_nothing_and_costs_nothing():
    estimate = estimate_run(map(record, range(3)), assistant("http://127.0.0.1:9/v1", prices=Prices(1, 2)))
    assert (estimate.dialogues, estimate.requests) == (3, 6)
    assert estimate.completion_tokens == 6 * 320
    assert estimate.cost == pytest.approx((estimate.prompt_tokens + 2 * estimate.completion_tokens) / 1e6)


def test_another_runs_folder_is_refused(tmp_path):
    with scripted(lambda *_: GOOD) as (url, _):
        write_dialogues([record()], tmp_path, assistant(url))
        with pytest.raises(InputError, match="another run"):
            write_dialogues([record()], tmp_path, assistant(url, refine=False))


def test_prompts_of_ones_own_are_checked(tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text("rules: a\nkinds: {x: y}\nrefin: b\n")
    with pytest.raises(InputError, match="did you mean 'refine'"):
        load_prompts(path)


def test_the_examples_that_ship_hold_themselves():
    prompts, lexicon = load_prompts(), load_lexicon()
    for kind, told, dialogue in prompts.examples:
        objects = tuple(
            AnnotatedObject(str(n), Box(*(float(side) * 1000 for side in numbers.split(","))), (name,))
            for n, (name, numbers) in enumerate(re.findall(r"Object \d+ : (.*) at \[(.*)\]", told))
        )
        one = Record(PictureReference("1.jpg", 1000, 1000, "m", "1"), objects=objects)
        draft = Draft(one, kind, "0", 0)
        verified = verify_dialogue(dialogue, write_context(one, lexicon), draft, lexicon)
        assert verified.repairs == ()


def test_a_crowd_is_not_told_as_one_thing():
    one = record()
    crowd = AnnotatedObject("3", Box(0, 0, 900, 900), ("person",), is_crowd=True)
    context = write_context(replace(one, objects=(crowd, *one.objects), relationships=()), load_lexicon())
    assert [spot.names[0] for spot in context.spots] == ["dog", "man", "a man in red"]


def test_half_characters_in_the_json_of_a_reply_end_no_run(tmp_path):
    said = r'[{"question": "What \ud800 is it?", "answer": "A dog [0.100, 0.100, 0.300, 0.300]."}]'
    with scripted(lambda *_: said) as (url, _):
        assert write_dialogues([record()], tmp_path, assistant(url, tmp_path, refine=False)).accepted == 1
    (sample,) = read_dialogues(tmp_path)
    assert sample.turns[0].text == "What \ufffd is it?"


def test_the_mark_of_the_picture_is_no_word_of_a_dialogue():
    with pytest.raises(Rejected, match="<image>"):
        verify(GOOD.replace("It is", "<image> It is"))
