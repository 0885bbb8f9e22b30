"""Settings are checked before a model is loaded."""

import pytest


@pytest.mark.parametrize(
    "words", [["--device", "gpu"], ["--device", "cuda:x"], ["--device", ""], ["--model", " "]], ids=" ".join
)
def test_settings_that_cannot_be(refuse, photo, words):
    refuse("describe", photo(), *words)
    refuse("chat", photo(), *words)


def test_settings_reach_the_model(run, ferret, photo):
    run(
        "describe",
        photo(),
        "--device",
        "cuda:1",
        "--seed",
        "7",
        "--model",
        "elsewhere",
        "--max-new-tokens",
        "9",
    )
    (settings,) = ferret.loads
    assert (settings.device, settings.seed, settings.model) == ("cuda:1", 7, "elsewhere")
    assert ferret.calls[-1] == ("describe", {"max_new_tokens": 9})
