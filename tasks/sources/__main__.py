"""`python -m tasks.sources`: put the embedded raw data that params.yaml names into place.

`python -m tasks.sources digits` puts the digits where they are by default, whatever it names.
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
