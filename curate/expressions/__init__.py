"""The expression language of filters: a condition over a record's columns, `wer <= 0.3 and 0.5 <= duration <= 30`.

Python's own parser parses the text, and a translator turns a short list of allowed forms into nested functions, once.
The text is never executed as Python code, so an expression can only read the record and compute.

A *condition* is true or false; a *value* is an operand of a condition:

    condition   value < value (also <= > >= == !=, and chains: 0.5 <= duration <= 30)
                value in ["en", "de"], value not in […], "noisy" in tags, "uh" in text
                column is None, column is not None
                condition and condition, condition or condition, not condition
                startswith(text, "a"), endswith(text, "."), contains(tags, "noisy")
                a column of True and False; True; False
    value       a column: wer, meta.snr (a nested mapping), column("name with blanks")
                a number, a 'text', True, False
                + - * / // % and the minus sign, on numbers
                len, abs, min, max, round, lower, upper, strip, replace(text, 'old', 'new'), concat(x, y, …),
                number(text)

`set_columns` computes values: one of the above, a condition, None, or `a if condition else b` of these.

The semantics are Python's, short circuits included, with these differences, all of which prevent a record from being
kept or filtered by accident:

- A column that is missing or null is an error of the record (`missing_column`), except under `is None`.
- Different types are not compared: `"3" == 3` is an error of the record (`bad_value`), and so is a bool as a number.
- NaN satisfies no comparison, not even `!=`, `not in` or a negated one: `not` is moved inward, so that
  `not wer > 0.3` is `wer <= 0.3`. A record whose `wer` is NaN therefore fails every clause about `wer`.
"""

from curate.expressions.clause import Clause, Threshold
from curate.expressions.expression import Expression, ValueExpression
from curate.expressions.source import MAX_CHARACTERS
from curate.expressions.translator import column_source

__all__ = ["MAX_CHARACTERS", "Clause", "Expression", "Threshold", "ValueExpression", "column_source"]
