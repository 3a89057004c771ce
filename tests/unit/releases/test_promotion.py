from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.releases.overrides import Override, OverrideRefusedError, OverrideRequest, check_request
from mangaassist_assets.releases.promotion import Champion, StoredVerdict, choose_promotion


def verdict(bundle="rc2", start=200, word="pass", challenger="2", champion="1"):
    return StoredVerdict(
        release_bundle=bundle,
        bundle_start_ms=start,
        verdict=word,
        challenger_version=challenger,
        champion_version=champion,
    )


FIRST = Champion(version="1", bundle_start_ms=0)


def test_a_pass_against_the_present_champion_is_promoted():
    promotion = choose_promotion([verdict()], FIRST)
    assert promotion.promoted == verdict()


def test_nothing_is_promoted_without_an_evaluation():
    assert choose_promotion([], FIRST).promoted is None


def test_neither_fail_nor_insufficient_evidence_is_promoted():
    for word in ("fail", "insufficient_evidence"):
        promotion = choose_promotion([verdict(word=word)], FIRST)
        assert promotion.promoted is None
        assert word in promotion.reason


def test_a_verdict_against_a_replaced_champion_is_stale():
    promotion = choose_promotion([verdict(champion="1", challenger="2")], Champion(version="7", bundle_start_ms=100))
    assert promotion.promoted is None
    assert "evaluate again" in promotion.reason


def test_promoting_twice_changes_nothing():
    promotion = choose_promotion([verdict()], Champion(version="2", bundle_start_ms=200))
    assert promotion.promoted is None
    assert "is champion" in promotion.reason


def test_a_backfilled_old_bundle_never_replaces_a_newer_champion():
    champion = Champion(version="2", bundle_start_ms=200)
    promotion = choose_promotion([verdict(bundle="rc1", start=100, challenger="3", champion="2")], champion)
    assert promotion.promoted is None
    assert "back in time" in promotion.reason


def test_the_newest_passing_bundle_wins():
    promotion = choose_promotion([verdict("rc3", 300, challenger="4"), verdict("rc2", 200, challenger="5")], FIRST)
    assert promotion.promoted is not None
    assert promotion.promoted.release_bundle == "rc3"


versions = st.sampled_from(["1", "2", "3", "4"])
verdicts = st.builds(
    StoredVerdict,
    release_bundle=st.sampled_from(["rc1", "rc2", "rc3"]),
    bundle_start_ms=st.integers(0, 500),
    verdict=st.sampled_from(["pass", "fail", "insufficient_evidence"]),
    challenger_version=versions,
    champion_version=versions,
)


@given(st.lists(verdicts), st.builds(Champion, version=versions, bundle_start_ms=st.integers(0, 500)))
def test_only_a_pass_against_this_champion_and_not_older_is_ever_promoted(stored, champion):
    promoted = choose_promotion(stored, champion).promoted
    if promoted is not None:
        assert promoted.verdict == "pass"
        assert promoted.champion_version == champion.version
        assert promoted.bundle_start_ms >= champion.bundle_start_ms


requests = st.builds(
    OverrideRequest,
    version=versions,
    against=versions,
    reason=st.sampled_from(["it answers gift cards", "it is the faster one"]),
    by=st.just("operator"),
)


def decided(request, sequence, overruled=()):
    return Override(
        request_id=request.request_id,
        model_name="intent",
        sequence=sequence,
        version=request.version,
        replaced=request.against,
        reason=request.reason,
        by=request.by,
        decided_at=f"2026-01-{sequence + 1:02d}T00:00:00+00:00",
        artifact_sha256="a" * 64,
        verdict=None,
        judged_against=None,
        overruled=overruled,
    )


histories = st.lists(requests, max_size=4, unique_by=lambda one: one.request_id).map(
    lambda asked: [decided(one, number) for number, one in enumerate(asked)]
)
champions = st.builds(Champion, version=versions, bundle_start_ms=st.integers(0, 500))


@given(st.lists(verdicts), champions, histories)
def test_overrides_of_the_past_promote_nothing(stored, champion, history):
    assert choose_promotion(stored, champion, overrides=history) == choose_promotion(stored, champion)


@given(versions, histories, requests)
def test_a_request_moves_only_the_champion_it_was_made_against(champion, history, request):
    try:
        begun = check_request(request, champion, history)
    except OverrideRefusedError:
        return
    assert champion == request.against or begun is not None
    assert champion in {request.against, request.version}


@given(versions, histories, requests)
def test_a_request_that_was_carried_out_never_moves_the_champion_again(champion, history, request):
    past = [*history, decided(request, len(history))]
    try:
        begun = check_request(request, champion, past, carried_out={request.request_id})
    except OverrideRefusedError:
        return
    assert champion == request.version
    assert begun is not None


def test_a_verdict_that_an_override_knew_does_not_undo_it():
    back = decided(OverrideRequest(version="1", against="2", reason="version 2 is slow", by="operator"), 0)
    known = decided(
        OverrideRequest(version="1", against="2", reason="version 2 is slow", by="operator"), 0, (("rc2", "2"),)
    )
    assert choose_promotion([verdict()], FIRST, overrides=[back]).promoted == verdict()
    stays = choose_promotion([verdict()], FIRST, overrides=[known])
    assert stays.promoted is None
    assert "decided otherwise" in stays.reason
    newer = verdict("rc3", 300, challenger="3")
    assert choose_promotion([verdict(), newer], FIRST, overrides=[known]).promoted == newer
