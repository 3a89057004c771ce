import json

import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.sources.golden_file import GoldenMessage
from mangaassist_assets.datasets.sources.golden_set import (
    INPUT_FILE,
    GoldenSetChangedError,
    keep_golden_set,
    read_golden,
    read_handed_in,
    refuse_other_golden_set,
    store_golden_set,
)
from mangaassist_assets.privacy import Vocabulary

NO_WORDS = Vocabulary(())
FIRST = [
    GoldenMessage(text="write to nobody@example.invalid about it", intent="contact", user_id="u", session_id="s"),
    GoldenMessage(text="返品できますか\u2028本当に", intent=None, relevant_documents=("returns.md",)),
]
OTHER = [GoldenMessage(text="where is my parcel", intent="order_status")]


@pytest.fixture
def inputs(tmp_path):
    return UPath(tmp_path)


def keep(inputs, messages, *, replace_present=False):
    keep_golden_set(inputs, messages, vocabulary=NO_WORDS, replace_present=replace_present)


def test_it_is_kept_redacted_and_without_shoppers(inputs):
    keep(inputs, FIRST)
    assert "nobody@example" not in (inputs / INPUT_FILE).read_text()
    first, second = read_handed_in(inputs).redacted(NO_WORDS)
    assert (first.text, first.intent, first.user_id, first.session_id) == (
        "write to [EMAIL] about it",
        "contact",
        None,
        None,
    )
    assert (second.intent, second.relevant_documents) == (None, ("returns.md",))
    assert second.text == FIRST[1].text


def test_without_a_file_there_is_none(inputs):
    handed_in = read_handed_in(inputs)
    assert (handed_in.sha256, handed_in.messages) == (None, ())
    assert json.loads(refuse_other_golden_set(handed_in, None))["sha256"] is None


def test_the_same_file_again_is_welcome_and_another_one_is_refused(inputs):
    keep(inputs, FIRST)
    keep(inputs, FIRST)
    with pytest.raises(GoldenSetChangedError, match="add --replace-golden"):
        keep(inputs, OTHER)
    assert len(read_handed_in(inputs).messages) == 2


def test_a_first_golden_set_may_come_after_none_was_in_use(inputs):
    none = refuse_other_golden_set(read_handed_in(inputs), None)
    keep(inputs, FIRST)
    assert refuse_other_golden_set(read_handed_in(inputs), none) != none


def test_the_asset_refuses_a_file_that_was_put_there_by_hand_or_taken_away(inputs):
    keep(inputs, FIRST)
    in_use = refuse_other_golden_set(read_handed_in(inputs), None)
    (inputs / INPUT_FILE).write_text('{"text": "mine", "intent": null, "relevant_documents": []}\n')
    with pytest.raises(GoldenSetChangedError, match="this is another one"):
        refuse_other_golden_set(read_handed_in(inputs), in_use)
    (inputs / INPUT_FILE).unlink()
    with pytest.raises(GoldenSetChangedError, match="gone from the inputs"):
        refuse_other_golden_set(read_handed_in(inputs), in_use)


def test_who_says_so_replaces_it_and_only_the_set_that_was_in_use_then(inputs):
    keep(inputs, FIRST)
    in_use = refuse_other_golden_set(read_handed_in(inputs), None)
    keep(inputs, OTHER, replace_present=True)
    now = refuse_other_golden_set(read_handed_in(inputs), in_use)
    assert now != in_use
    keep(inputs, FIRST[:1], replace_present=True)
    refuse_other_golden_set(read_handed_in(inputs), in_use)
    stranger = json.dumps({"sha256": "ab" * 32}).encode()
    with pytest.raises(GoldenSetChangedError):
        refuse_other_golden_set(read_handed_in(inputs), stranger)


def test_who_says_so_replaces_the_set_in_use_also_where_another_file_lies_in_its_place(inputs):
    keep(inputs, FIRST)
    in_use = refuse_other_golden_set(read_handed_in(inputs), None)
    (inputs / INPUT_FILE).write_text('{"text": "mine", "intent": null, "relevant_documents": []}\n')
    with pytest.raises(GoldenSetChangedError):
        keep_golden_set(inputs, OTHER, vocabulary=NO_WORDS, replace_present=False, stored_source=in_use)
    keep_golden_set(inputs, OTHER, vocabulary=NO_WORDS, replace_present=True, stored_source=in_use)
    refuse_other_golden_set(read_handed_in(inputs), in_use)
    assert [one.text for one in read_handed_in(inputs).messages] == ["where is my parcel"]


def test_the_stored_set_stays_as_it_was_when_the_words_of_the_store_change(inputs):
    store = SnapshotStore(inputs / "store")
    title = Vocabulary(("Naoko Takeuchi",))
    keep_golden_set(inputs, [GoldenMessage(text="please call Naoko Takeuchi")], vocabulary=title, replace_present=False)
    first = store_golden_set(store, inputs, vocabulary=title)
    assert read_golden(store) == ["please call Naoko Takeuchi"]
    assert store_golden_set(store, inputs, vocabulary=NO_WORDS).snapshot.digest == first.snapshot.digest
    assert read_golden(store) == ["please call Naoko Takeuchi"]
