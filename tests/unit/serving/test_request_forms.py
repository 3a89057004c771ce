"""Claims about which forms of request a candidate has to answer: what traces tell, else what is configured."""

from collections import Counter

import pytest

from mangaassist_assets.serving.request_forms import UnknownFormError, form_of, required_forms

INTENT = ("text", "inputs")


@pytest.mark.parametrize(
    ("keys", "form"),
    [
        (("text",), "text"),
        (("parameters", "text"), "text"),
        (("session_id", "text"), "text"),
        (("inputs",), "inputs"),
        (("passages", "query"), "query_passages"),
        (("query",), None),
        (("inputs", "text"), None),
        (("passages", "query", "text"), None),
        (("message",), None),
        ((), None),
    ],
)
def test_a_form_is_known_by_its_members(keys, form):
    assert form_of(keys) == form


def test_what_traces_tell_goes_before_configuration():
    told = required_forms([("inputs",)] * 3 + [()], configured=["text"], known=INTENT)
    assert (told.forms, told.known_from, told.observed) == (("inputs",), "traces", {"inputs": 3})


def test_every_form_that_was_seen_is_required():
    counts = Counter({("parameters", "text"): 7, ("inputs",): 1})
    told = required_forms(counts.elements(), configured=["text"], known=INTENT)
    assert told.forms == ("inputs", "text")
    assert told.observed == {"text": 7, "inputs": 1}


@pytest.mark.parametrize("observed", [[], [()], [("message",)], [("passages", "query")], [("inputs", "text")]])
def test_configuration_decides_where_no_trace_tells(observed):
    told = required_forms(observed, configured=["text"], known=INTENT)
    assert (told.forms, told.known_from) == (("text",), "configuration")


def test_what_makes_no_form_is_counted_and_requires_nothing():
    told = required_forms([("text",), ("message",), ("query", "passages"), ()], configured=["text"], known=INTENT)
    assert told.forms == ("text",)
    assert told.unrecognised == {("message",): 1, ("passages", "query"): 1}
    assert told.described() == "text by traces (seen: text 1 times, members of no form of this endpoint 2 times)"


@pytest.mark.parametrize(
    ("configured", "reason"),
    [(["txt"], "named 'txt'; the endpoint has inputs, text"), ([], "is configured; the endpoint has inputs, text")],
)
def test_a_configured_form_that_the_endpoint_does_not_have_is_refused(configured, reason):
    with pytest.raises(UnknownFormError, match=reason):
        required_forms([("text",)], configured=configured, known=INTENT)
