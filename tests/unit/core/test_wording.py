from cto_backups.core.wording import counted, did_you_mean, listed


def test_a_near_word_is_suggested_and_the_same_first_letter_wins():
    assert did_you_mean("munday", ["sunday", "monday"]) == "; did you mean 'monday'?"


def test_nothing_is_suggested_when_nothing_is_near():
    assert did_you_mean("xyz", ["monday"]) == ""
    assert did_you_mean("", ["monday"]) == ""


def test_numbers_agree_with_their_nouns():
    assert [counted(1, "copy", "copies"), counted(2, "copy", "copies"), counted(0, "day")] == [
        "1 copy",
        "2 copies",
        "0 days",
    ]


def test_lists_read_as_sentences():
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
