"""Reading: how text is parsed as numbers, dates and words, in training and in prediction.

It is part of the signature, so that prediction reads the same files as training.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Reading(BaseModel):
    """The given or detected rules; None or empty if there is none.

    `encoding`, `delimiter` and `quote` apply to CSV files; for a file that evidently has others,
    they are detected again. The rest applies to text in all formats: `decimal` and `thousands` to
    numbers, `na_values` to all columns (the empty string is always missing), `true_values` and
    `false_values` in addition to true and false, `date_format` (strptime) in addition to ISO 8601.
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
    """2 normalizes white space and Unicode forms in categories; 1 is for models of older releases,
    which did not."""


PLAIN = Reading()
# For signatures of older releases, which have no `reading`.
EARLIER = Reading(spelling=1)
