from openferret.data.endpoints.calling import Caller
from openferret.data.endpoints.spending import Ledger
from openferret.data.files.kept import Kept
from openferret.data.negatives.endpoint_analogies import EndpointAnalogies, read_analogies
from openferret.data.negatives.kept_analogies import ask_all, wanted_phrases
from openferret.data.negatives.mining import TableAnalogies
from openferret.data.records import Caption, Phrase, Record
from openferret.data.schema import PictureReference
from openferret.data.templates.writers import make_settings, write_record
from openferret.data.words.lexicon import load_lexicon
from openferret.errors import InputError
from openferret.eval.transport import ChatServer
from openferret.phrases import without_determiner
from openferret.regions import Box

from ..scripted import scripted

TABLE = TableAnalogies(load_lexicon())
CAPTION = Caption("A dog runs .", (Phrase("A dog", (0, 5), (Box(0, 0, 9, 9),), "animals", "1"),))
RECORD = Record(PictureReference("1.jpg", 90, 90, "mine", "1"), captions=(CAPTION,))


def model(url, **settings):
    return EndpointAnalogies(
        Caller(ChatServer(url, "tiny", timeout=30), Ledger(), tries=1, **settings), TABLE
    )


def test_what_a_model_names_is_checked_against_the_picture(tmp_path):
    with scripted(lambda *_: "puppy\nanimal\npooch\nllama\n") as (url, log):
        analogies = model(url, cache=Kept(tmp_path / "cache.jsonl", "request"))
        asked = {
            sample.turns[0].text
            for seed in range(12)
            for sample in write_record(RECORD, make_settings(seed, analogies=analogies), {"presence"})
            if sample.negative
        }
    assert asked
    assert all("llama" in text for text in asked)
    assert len(log) == 1


def test_without_a_reply_the_table_answers():
    assert model("http://127.0.0.1:9/v1").of("a dog") == TABLE.of("a dog")
    with scripted(lambda *_: "[]") as (url, _):
        assert model(url).of("a dog") == TABLE.of("a dog")


def test_replies_are_read_strictly():
    assert read_analogies("* the red car\nred car\n<box:0>\n" + "long " * 40) == ["red car"]


def test_every_phrase_that_a_build_may_ask_of_is_asked():
    heard = set()

    class Listening:
        def of(self, phrase):
            heard.add(without_determiner(phrase))
            return TABLE.of(phrase)

    text = "A dog , a man , a bus and a cup ."
    named = [("A dog", "dog"), ("a man", "man"), ("a bus", "bus"), ("a cup", "cup")]
    spans = [(text.index(phrase), text.index(phrase) + len(phrase)) for phrase, _ in named]
    phrases = tuple(
        Phrase(phrase, span, (Box(9 * n, 0, 9 * n + 8, 9),), "other", str(n + 1))
        for n, ((phrase, _), span) in enumerate(zip(named, spans, strict=True))
    )
    records = [
        Record(PictureReference(f"{n}.jpg", 90, 90, "mine", str(n)), captions=(Caption(text, phrases),))
        for n in range(8)
    ]
    for number, record in enumerate(records):
        heard.clear()
        list(write_record(record, make_settings(analogies=Listening())))
        assert set(wanted_phrases([record], make_settings())) == heard, number


def test_two_runs_do_not_ask_for_the_same_at_once(tmp_path):
    file = tmp_path / "analogies.jsonl"
    refused = []

    def answer(*_):
        try:
            ask_all(["dog"], file, model("http://127.0.0.1:9/v1").caller)
        except InputError as error:
            refused.append(str(error))
        return "cat"

    with scripted(answer) as (url, _):
        assert ask_all(["dog"], file, model(url).caller).named == 1
    assert len(refused) == 1
    assert "another run is at work" in refused[0]
