"""Lines of text."""

from headatlas.charts.text import wrap


def test_words_break_only_at_spaces_and_only_when_they_must():
    assert wrap("Semantic Understanding", 13, 192) == ["Semantic Understanding"]
    assert wrap("Semantic Understanding", 13, 100) == ["Semantic", "Understanding"]
    assert wrap("Semantic Understanding", 13, 5) == ["Semantic", "Understanding"]
    assert wrap("one\ntwo three", 13, 500) == ["one", "two three"]
