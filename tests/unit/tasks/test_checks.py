"""Which texts are right, case by case, worked out by hand."""

from decimal import Decimal

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.tasks.checks import CHECKS, is_right, last_number, require_checkable


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("Paris", "Paris", True),
        (" paris.", "Paris", True),
        ("PARIS!?", "Paris", True),
        ("“Paris.”", "Paris", True),
        ('"Paris".', "Paris", True),
        ("the  red\nhat", "The red hat", True),
        ("U.S.", "u.s", True),
        ("Paris, France", "Paris", False),
        ("It is Paris", "Paris", False),
        ("12.0", "12", False),
        ("12.", "12", True),
        ("-5", "5", False),
        ("1,024", "1024", False),
        ("?", "!", False),
        ("?", "?", True),
        ("", "Paris", False),
        (" \n", "Paris", False),
    ],
)
def test_exact(text, reference, right):
    assert is_right(text, reference, "exact") is right


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("12.0", "12", True),
        ("12", "12.00", True),
        ("12.5", "12", False),
        ("1,024", "1024", True),
        ("1024", "1,024", True),
        ("1,024,000.50 dollars", "1024000.5", True),
        ("10,24", "1024", False),
        ("It is 12.", "12", True),
        ("7 + 5 = 12", "12", True),
        ("12 is 7 + 5", "12", False),
        ("-12", "12", False),
        ("−12", "-12", True),
        ("17-12", "12", True),
        ("17 - 12", "12", True),
        ("(-12)", "-12", True),
        ("$12", "12", True),
        (".5", "0.5", True),
        ("-.5", "-0.50", True),
        ("0.1", "0.10000000000000001", False),
        ("twelve", "12", False),
        ("", "12", False),
        ("So she has 48 + 24 = 72 clips", "Natalia sold 48/2 = 24. #### 72", True),
    ],
)
def test_number(text, reference, right):
    assert is_right(text, reference, "number") is right


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("Yes, it is.", "yes", True),
        ("yes", "Yes, it is", True),
        ("No", "yes", False),
        ("'Yes' is right", "yes", True),
        ("The yes", "yes", False),
        ("yesterday", "yes", False),
        (" ", "yes", False),
    ],
)
def test_first_word(text, reference, right):
    assert is_right(text, reference, "first_word") is right


def test_of_several_numbers_the_last_counts():
    assert last_number("3 of 4 are 0.75, or 75%") == Decimal(75)
    assert last_number("none") is None


def test_a_reference_without_a_number_is_refused_by_the_check_of_numbers_alone():
    for check in CHECKS:
        require_checkable("12 apples", check, "math.jsonl:3")
    require_checkable("twelve", "exact", "math.jsonl:3")
    message = (
        "math.jsonl:3: the answer 'twelve' holds no number in digits, so check: number is never right; take exact or "
        "first_word for this task"
    )
    with pytest.raises(HeadAtlasError) as error:
        require_checkable("twelve", "number", "math.jsonl:3")
    assert str(error.value) == message
