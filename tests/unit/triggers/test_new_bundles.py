import pytest

from mangaassist_assets.core.bundles import bundle_defect
from mangaassist_assets.triggers.new_bundles import find_new_bundles


def test_only_bundles_without_a_partition_are_new_and_they_come_sorted_once():
    found = find_new_bundles(["2026.03.10-rc1"], ["b", "2026.03.24-rc2", "2026.03.10-rc1", "b"])
    assert found.new == ("2026.03.24-rc2", "b")
    assert found.rejected == {}


@pytest.mark.parametrize(
    "key", ["", ".hidden", "a,b", "a b", "a/b", "a..b", "x" * 64, "日本", "a\n", "a\x00", "-a", "_a", "b1\n"]
)
def test_a_key_that_can_be_no_partition_is_rejected_with_a_printable_name_and_a_reason(key):
    ((shown, reason),) = find_new_bundles([], [key]).rejected.items()
    assert reason
    assert shown.isprintable()
    assert len(shown) <= 80


@pytest.mark.parametrize("key", ["a", "2026.03.24-rc2", "x" * 63, "9_a.b-c"])
def test_good_keys_have_no_defect(key):
    assert bundle_defect(key) is None


def test_a_key_that_is_no_string_is_rejected():
    assert "not int" in bundle_defect(17)
