"""Rules as data: the packaged file, files of one's own, and what a wrong one is told."""

from __future__ import annotations

import pytest

from mangaassist_assets.mining.blame.blame import find_failures
from mangaassist_assets.mining.blame.evidence import KINDS
from mangaassist_assets.mining.blame.explanations import rule_rows
from mangaassist_assets.mining.blame.rule_names import EVIDENCE_KINDS, LOOP_OF_STAGE, SIGNAL_PARAMETERS, STAGES
from mangaassist_assets.mining.blame.rules import PACKAGED_RULES, MiningRulesError, read_rules
from resources.settings.mining import RULES_VARIABLE, MiningResource
from tests.support.mined_turns import make_turn
from tests.support.mining_rules import changed_rules, rules_of, rules_with

THUMBS = "[signals.thumbs_down]\nexplicit = true\nconfidence = 0.8"
UNKNOWN = '[stages.unknown]\nloop = "none"'
UNSURE = '[[stages.intent.evidence]]\nname = "unsure_classifier"\nbelow = 0.5\nconfidence = 0.5'


def test_the_packaged_rules_route_every_stage_as_designed():
    rules = read_rules()
    assert dict(rules.loops) == dict(LOOP_OF_STAGE)
    assert set(rules.signals) == set(SIGNAL_PARAMETERS)
    assert {rule.stage for rule in rules.evidence} == set(STAGES) - {"unknown"}


def test_every_kind_of_evidence_that_rules_may_name_is_implemented_and_used():
    assert set(KINDS) == set(EVIDENCE_KINDS) == {rule.name for rule in read_rules().evidence}


def test_the_digest_is_of_what_the_rules_say_not_of_how_the_file_looks():
    packaged = read_rules()
    assert rules_of("# a comment\n" + PACKAGED_RULES.read_text(encoding="utf-8")).digest == packaged.digest
    assert rules_with("within_s = 300", "within_s = 300.0").digest == packaged.digest
    assert rules_with("within_s = 300", "within_s = 301").digest != packaged.digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (THUMBS, THUMBS.replace("0.8", "1.2"), r"signals\.thumbs_down\.confidence is 1\.2, not a number from 0 to 1"),
        (THUMBS, THUMBS.replace("0.8", "-0.1"), r"signals\.thumbs_down\.confidence is -0\.1"),
        (THUMBS, THUMBS.replace("0.8", "nan"), r"signals\.thumbs_down\.confidence is nan"),
        (THUMBS, THUMBS.replace("0.8", "true"), r"signals\.thumbs_down\.confidence is True"),
        (THUMBS, THUMBS.replace("0.8", '"high"'), r"signals\.thumbs_down\.confidence is 'high'"),
        (THUMBS, THUMBS.replace("true", '"yes"'), r"signals\.thumbs_down\.explicit is 'yes', neither true nor false"),
        (THUMBS, THUMBS.replace("thumbs_down", "thumbs"), r"signals\.thumbs is unknown; there are .*thumbs_down"),
        (THUMBS, THUMBS + "\nbelow = 0.5", r"signals\.thumbs_down\.below is unknown"),
        (THUMBS, "[signals.thumbs_down]\nexplicit = true", r"signals\.thumbs_down\.confidence is missing"),
        ("within_s = 300\n", "", r"signals\.rephrased\.within_s is missing"),
        ("within_s = 300", "within_s = 1e9", r"within_s is 1000000000\.0, not a number from 0 to 86400"),
        (UNKNOWN, "", r"stages\.unknown is missing"),
        (
            UNKNOWN,
            UNKNOWN.replace('"none"', '"retrain"'),
            r"stages\.unknown\.loop is 'retrain'; the loops are retrain_",
        ),
        (UNKNOWN, UNKNOWN + "\nevidence = []", r"stages\.unknown\.evidence is unknown"),
        (UNKNOWN, UNKNOWN + '\n[stages.weather]\nloop = "none"', r"stages\.weather is unknown"),
        (UNSURE, UNSURE.replace("unsure", "sure"), r"stages\.intent\.evidence\[3\]\.name is 'sure_classifier'"),
        (UNSURE, UNSURE.replace("below = 0.5\n", ""), r"stages\.intent\.evidence\[3\]\.below is missing"),
        (UNSURE, UNSURE.replace("below = 0.5", "below = [1]"), r"stages\.intent\.evidence\[3\]\.below is \[1\]"),
        (UNSURE, f"{UNSURE}\n\n{UNSURE}", r"stages\.intent\.evidence\[4\] says 'unsure_classifier' a second time"),
        ("schema = 2", "schema = 3", r"schema is 3; this platform reads 2$"),
        ("schema = 2", "schema = true", r"schema is True; this platform reads 2$"),
        ("schema = 2", "", r"schema is missing"),
        ("judge_factor = 0.8", 'judge_factor = "none"', r"turns\.judge_factor is 'none'"),
        ('ungrounded_reasons = ["ungrounded"]', "ungrounded_reasons = [1]", r"turns\.ungrounded_reasons is \[1\]"),
        ("schema = 2", "schema = = 2", r"are not TOML in UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_its_key(old, new, message):
    with pytest.raises(MiningRulesError, match=message) as refused:
        rules_with(old, new)
    assert "rules.toml" in str(refused.value)


def test_rules_under_which_nothing_fails_or_a_stage_cannot_be_blamed_are_refused():
    text = PACKAGED_RULES.read_text(encoding="utf-8")
    with pytest.raises(MiningRulesError, match="no turn would ever be a failure"):
        rules_of(text.replace("explicit = true", "explicit = false"))
    blocked = '[[stages.guardrail.evidence]]\nname = "blocked"\nconfidence = 1.0\n'
    stop = text[text.index(blocked) : text.index("[stages.intent]")]
    with pytest.raises(MiningRulesError, match=r"stages\.guardrail\.evidence is missing"):
        rules_of(text.replace(stop, ""))
    passed = '[[stages.guardrail.evidence]]\nname = "assessment_passed"\nassessments = ["x"]\nconfidence = 1.0\n'
    with pytest.raises(MiningRulesError, match=r"stages\.guardrail\.evidence has nothing that speaks against"):
        rules_of(text.replace(stop, passed))


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(MiningRulesError, match=r"nowhere\.toml cannot be read"):
        read_rules(tmp_path / "nowhere.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MiningRulesError, match=r"binary\.toml are not TOML"):
        read_rules(tmp_path / "binary.toml")


def test_the_resource_takes_its_field_then_the_variable_then_the_packaged_rules(tmp_path, monkeypatch):
    own, other = tmp_path / "own.toml", tmp_path / "other.toml"
    own.write_text(changed_rules("within_s = 300", "within_s = 60"), encoding="utf-8")
    other.write_text(changed_rules("within_s = 300", "within_s = 90"), encoding="utf-8")
    monkeypatch.delenv(RULES_VARIABLE, raising=False)
    assert MiningResource().rules().digest == read_rules().digest
    monkeypatch.setenv(RULES_VARIABLE, str(other))
    assert MiningResource().rules().signals["rephrased"].number("within_s") == 90
    assert MiningResource(path=str(own)).rules().signals["rephrased"].number("within_s") == 60


def test_a_stage_feeds_the_loop_that_the_rules_say():
    turn = make_turn(candidates=())
    rules = rules_with('[stages.retrieval]\nloop = "reindex"', '[stages.retrieval]\nloop = "configuration"')
    assert [failure.blame.loop for failure in find_failures([turn])] == ["reindex"]
    assert [failure.blame.loop for failure in find_failures([turn], config=rules)] == ["configuration"]


def test_an_auditor_sees_every_rule_in_a_table():
    rules = read_rules()
    rows = rule_rows(rules)
    assert len(rows) == len(rules.signals) + len(rules.evidence)
    unsure = next(row for row in rows if row["rule"] == "low_confidence")
    assert {"about": "signal", "speaks": "ranks failures", "parameters": "below = 0.5"}.items() <= unsure.items()
    off = rule_rows(rules_with(THUMBS, f"{THUMBS}\nenabled = false"))
    assert off[0]["speaks"] == "switched off"
