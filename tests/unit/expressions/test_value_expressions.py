"""Expressions that compute a value, for `set_columns`."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from curate.errors import PlanError, RecordError
from curate.expressions import Expression, ValueExpression

RECORD = {
    "duration": 2.5,
    "text": " Hello ",
    "wer": 0.25,
    "snr": None,
    "tags": ["noisy"],
    "n": "3.50",
    "meta": {"mic": "a"},
    "good": True,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("duration", 2.5),
        ("duration * 2 + 1", 6.0),
        ("'CC0'", "CC0"),
        ("-1", -1),
        ("True", True),
        ("None", None),
        ("snr", None),
        ("tags", ["noisy"]),
        ("meta.mic", "a"),
        ("meta.none", None),
        ("good", True),
        ("wer > 0.2", True),
        ("wer > 0.2 and duration < 1", False),
        ("not wer > 0.2", False),
        ("contains(tags, 'noisy')", True),
        ("startswith(text, 'H')", False),
        ("snr is None", True),
        ("snr if snr is not None else 0", 0),
        ("'long' if duration > 10 else 'middle' if duration > 2 else 'short'", "middle"),
        ("None if wer > 0.2 else wer", None),
        ("strip(lower(text))", "hello"),
        ("replace(text, 'l', 'L')", " HeLLo "),
        ("concat('a', '-', 3, '-', True)", "a-3-True"),
        ("number(n) * 2", 7.0),
        ("number('12')", 12),
        ("round(duration / 3, 2)", 0.83),
        ("column('duration')", 2.5),
        ("(\nduration\n)", 2.5),
    ],
)
def test_value_is_computed(text: str, value: Any) -> None:
    found = ValueExpression(text).value(RECORD)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nothing", "missing_column"),
        ("snr + 1", "missing_column"),
        ("meta + 1", "bad_value"),
        ("duration / 0", "bad_value"),
        ("number(text)", "bad_value"),
        ("number('1,5')", "bad_value"),
        ("replace(text, '', 'x')", "bad_value"),
        ("concat(tags, 'x')", "bad_value"),
    ],
)
def test_record_that_does_not_fit_is_an_error_of_the_record(text: str, code: str) -> None:
    with pytest.raises(RecordError) as raised:
        ValueExpression(text).value(RECORD)
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "value expression is empty; write a value"),
        ("duration +", "value expression, column"),
        ("'a' + 'b'", "needs a number"),
        ("__import__('os')", "unknown function"),
        ("[1, 2]", "a list is only allowed after"),
        ("x if y", "value expression"),
        ("lambda: 1", "lambdas are not allowed"),
        ("meta['mic']", "subscripts are not allowed"),
        ("concat()", "write concat"),
    ],
)
def test_wrong_text_is_a_mistake_in_the_plan(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        ValueExpression(text)


def test_replacement_is_bounded() -> None:
    with pytest.raises(RecordError, match="too many characters"):
        ValueExpression("replace(x, 'a', '" + "b" * 5000 + "')").value({"x": "a" * 5000})


def test_columns_and_those_that_a_record_must_have() -> None:
    expression = ValueExpression("snr if snr is not None else meta.snr * duration")
    assert expression.columns == {"snr", "meta", "duration"}
    assert expression.required == {"meta", "duration"}


def test_value_expression_is_its_own_copy_and_pickled_as_text() -> None:
    expression = ValueExpression("duration * 2")
    assert copy.deepcopy(expression) is expression
    assert pickle.loads(pickle.dumps(expression)) == expression
    assert pickle.loads(pickle.dumps(expression)).value(RECORD) == 5.0


def test_filters_take_no_choices() -> None:
    with pytest.raises(PlanError, match="is not allowed; use and, or"):
        Expression("True if x > 1 else False")
