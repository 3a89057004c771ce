"""Settings of the feedback trigger: what a file may say."""

import pytest

from mangaassist_assets.triggers.settings import TriggerConfig, TriggerSettingsError, read_settings


def test_what_a_file_does_not_name_has_its_default(tmp_path):
    path = tmp_path / "triggers.toml"
    path.write_text("[feedback]\nminimum_rise = 0.1\nodds = [2, 4.0]\n")
    assert read_settings(path) == TriggerConfig(minimum_rise=0.1, odds=(2.0, 4.0))
    path.write_text("")
    assert read_settings(path) == TriggerConfig()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[feedback]\nminimum_ris = 1\n", "minimum_ris"),
        ("[feedback]\nminimum_rise = 'much'\n", "minimum_rise"),
        ("[feedback]\nrun_length = -1\n", "run_length must be more than 0"),
        ("[feedback]\nrun_length = nan\n", "run_length"),
        ("[feedback]\nodds = []\n", "odds must be factors over 1"),
        ("[feedback]\noverall_weight = 2\n", "overall_weight must be at most 1"),
        ("[feedback]\nshopper_correlation = 1.0\n", "shopper_correlation must lie between"),
        ("[feedback]\nwindow_votes = 20\n", "window_votes must be two blocks"),
        ("[feedbak]\n", "there is no table [feedbak]"),
        ("not toml", "triggers.toml"),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_its_file(tmp_path, content, said):
    path = tmp_path / "triggers.toml"
    path.write_text(content)
    with pytest.raises(TriggerSettingsError) as raised:
        read_settings(path)
    assert said in str(raised.value)
    assert "triggers.toml" in str(raised.value)
    assert "\n" not in str(raised.value)
