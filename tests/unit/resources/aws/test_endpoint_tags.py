"""Claims about tags of SageMaker resources: whatever is written is a tag that AWS takes, and reads back as it was."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.local.sagemaker.parameters import checked_tags
from resources.aws.endpoint_tags import TagError, from_tags, to_tags

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXTS)
def test_any_text_is_written_as_a_tag_that_is_taken_and_reads_back(text):
    written = to_tags({"mlflow_registered_model": text})
    assert checked_tags(written) == {"mlflow_registered_model": written[0]["Value"]}
    assert from_tags(written) == {"mlflow_registered_model": text}


def test_usual_values_are_written_as_they_are():
    values = {"a": "mangaassist-intent-classifier", "b": "2026-03-02T08:00:00+00:00", "c": "d/e.f_g@h i", "d": "漫画"}
    assert {tag["Key"]: tag["Value"] for tag in to_tags(values)} == values


def test_what_a_tag_cannot_hold_is_written_in_its_letters():
    assert to_tags({"k": "m#1 (a=b)"})[0]["Value"] == "m=231 =28a=3Db=29"


def test_a_value_that_somebody_else_wrote_is_read_as_it_is():
    assert from_tags([{"Key": "k", "Value": "a=b"}]) == {"k": "a=b"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({f"k{number}": "" for number in range(51)}, "at most 50"),
        ({"k" * 129: "v"}, "cannot be the key"),
        ({"": "v"}, "cannot be the key"),
        ({"AWS:k": "v"}, "cannot be the key"),
        ({"k#": "v"}, "cannot be the key"),
        ({"k": "v" * 257}, "has 257 characters"),
        ({"k": "#" * 86}, "has 258 characters"),
    ],
)
def test_what_aws_would_refuse_is_refused_before_it_is_sent(values, reason):
    with pytest.raises(TagError, match=re.escape(reason)):
        to_tags(values)
