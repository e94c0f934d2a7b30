from cto_backups.core.wording import counted, did_you_mean, listed, not_declared


def test_a_near_word_is_suggested_and_the_same_first_letter_wins():
    assert did_you_mean("munday", ["sunday", "monday"]) == "; did you mean 'monday'?"


def test_nothing_is_suggested_when_nothing_is_near():
    assert did_you_mean("xyz", ["monday"]) == ""
    assert did_you_mean("", ["monday"]) == ""


def test_words_that_it_begins_are_suggested_the_shortest_first_and_three_at_most():
    names = ["data-files-of-old", "data-files", "data-mail", "data-of-all", "other"]
    assert did_you_mean("Data", names[:1]) == "; did you mean 'data-files-of-old'?"
    assert did_you_mean("data", names) == "; did you mean 'data-mail' or 'data-files' or 'data-of-all'?"
    assert did_you_mean("o", names) == ""


def test_a_word_that_it_begins_does_not_hide_one_that_is_nearer():
    assert did_you_mean("data", ["date", "data-files"]) == "; did you mean 'data-files' or 'date'?"


def test_a_name_that_the_policy_lacks_is_told_with_those_that_it_has():
    error = not_declared("vault", "data", ["two", "data-files"])
    assert error.what == "There is no vault named 'data'; did you mean 'data-files'?"
    assert error.why == "the policy declares: data-files, two"
    assert error.todo == "Use one of these names, or add the vault to backups.yaml."
    assert not_declared("source", "data", []).why == "the policy declares: none"


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
