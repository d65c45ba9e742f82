from tasks.words import counted, some


def test_some_names_the_first_and_how_many_follow():
    assert some([]) == ""
    assert some("abc") == "a, b, c"
    assert some(map(str, range(1_007)), 2) == "0, 1 and 1,005 more"


def test_counted_has_a_plural_for_all_but_one():
    assert [counted(number, "row") for number in (0, 1, 2_000)] == ["0 rows", "1 row", "2,000 rows"]
