"""`python -m tasks.sources`: copy the example data that params.yaml names to its path.

`python -m tasks.sources digits` copies the digits to their default path, without params.yaml.
"""

import sys
from pathlib import Path

from tasks import params, sources
from tasks.config import DigitsSource
from tasks.errors import InputError

try:
    if sys.argv[1:] == ["digits"]:
        sources.place_embedded(DigitsSource(kind="digits"), Path())
    elif sys.argv[1:]:
        raise InputError("usage: python -m tasks.sources [digits]")
    else:
        sources.place_embedded(params.load(Path("params.yaml")).prepare.source, Path())
except InputError as error:
    sys.exit(f"error: {error}")
