"""Reading: how text stands for numbers, dates and words; the same in training and in prediction.

Part of the signature, so that a file that can be trained on can be predicted.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Reading(BaseModel):
    """What was given or detected; None and empty say that nothing was.

    `encoding`, `delimiter` and `quote` are those of CSV files, and detected for a file that
    evidently has others. The rest holds for the text in every form of file: `decimal` and
    `thousands` in numbers, `na_values` beside the empty string in all columns, `true_values` and
    `false_values` beside true and false, `date_format` (strptime) beside ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    decimal: Literal[".", ","] | None = None
    thousands: str | None = None
    na_values: tuple[str, ...] = ()
    true_values: tuple[str, ...] = ()
    false_values: tuple[str, ...] = ()
    date_format: str | None = None
    spelling: Literal[1, 2] = 2
    """1 as models had it before: blanks and Unicode forms made two categories of one."""


PLAIN = Reading()
# That of a signature which does not say.
EARLIER = Reading(spelling=1)
