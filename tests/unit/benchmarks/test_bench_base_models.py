"""The interval that the comparison of bases gives."""

from benchmarks.bench_base_models import interval

ANSWERS = {f"m{number}": [number % 3 > 0] for number in range(300)}


def test_bases_that_answer_alike_do_not_differ_in_any_resample():
    first, second, difference = interval([ANSWERS, ANSWERS], {})
    assert first == second
    assert first[0] < 2 / 3 < first[1]
    assert difference == [0.0, 0.0]


def test_a_difference_is_last_minus_first():
    wrong = {name: [False] for name in ANSWERS}
    assert interval([wrong, ANSWERS], {})[-1][0] > 0.5
    assert interval([ANSWERS, wrong], {})[-1][1] < -0.5


def test_messages_of_one_template_count_as_one_that_came_often():
    triples = {f"m{number}": f"template-{number // 3}" for number in range(300)}
    alike = {name: [int(name[1:]) // 3 % 3 > 0] for name in ANSWERS}

    def width(cluster):
        low, high = interval([alike, alike], cluster)[0]
        return high - low

    assert width(triples) > 1.5 * width({})
