"""Why a row cannot be predicted: the codes in `quarantine/`. They are stable; docs list them."""

MISSING = "missing"
"""No value, and the model has none that stands for a missing one."""
NOT_FINITE = "not_finite"
"""NaN or infinite."""
NOT_A_NUMBER = "not_a_number"
NOT_A_BOOLEAN = "not_a_boolean"
NOT_A_DATE = "not_a_date"
NOT_TEXT = "not_text"
"""Neither text nor what is written as text, where a category or text is expected."""
WRONG_TYPE = "wrong_type"
"""Another type than most values of the column have, where files have no types."""
NOT_UTF8 = "not_utf8"
NOT_JSON = "not_json"
"""A line of JSON Lines that is not one JSON object."""
WRONG_LENGTH = "wrong_length"
"""Another number of fields than the header has, or of numbers than a timestep has."""
UNREADABLE_IMAGE = "unreadable_image"
WRONG_IMAGE = "wrong_image"
"""An image of another size or colour than the model takes."""
BAD_PREDICTION = "bad_prediction"
"""The model returns NaN or infinity for the row."""

MEANINGS = {
    MISSING: "a value is missing",
    NOT_FINITE: "a value is NaN or infinite",
    NOT_A_NUMBER: "a value is not a number",
    NOT_A_BOOLEAN: "a value is not true or false",
    NOT_A_DATE: "a value is not a date",
    NOT_TEXT: "a value is not text",
    WRONG_TYPE: "a value has another type than most",
    NOT_UTF8: "the bytes are not UTF-8",
    NOT_JSON: "the line is not one JSON object",
    WRONG_LENGTH: "the row or sequence has a wrong length",
    UNREADABLE_IMAGE: "an image cannot be read",
    WRONG_IMAGE: "an image has a wrong size or colour",
    BAD_PREDICTION: "the prediction is NaN or infinite",
}
