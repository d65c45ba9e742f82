"""`python -m tasks.sources`: put the embedded raw data that params.yaml names into place."""

import sys
from pathlib import Path

from tasks import params, sources
from tasks.errors import InputError

try:
    sources.place_embedded(params.load(Path("params.yaml")).prepare.source, Path())
except InputError as error:
    sys.exit(f"error: {error}")
