"""Exit statuses of `modelmint`."""

DONE = 0
ERROR = 1
"""Any other error."""
INPUT = 2
"""Invalid input: parameters, data, references, files."""
REFUSED = 3
"""A gate failed, or a rule of the registry refused."""

OF_TRAINING = {"done": DONE, "input": INPUT, "refused": REFUSED, "error": ERROR}
"""By `flows.outcome.Outcome.end`."""
