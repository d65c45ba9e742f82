"""`python -P -m tasks.training PARAMS PATHS`: a further process of a training on several devices.

`tasks.training.launch` starts it. PARAMS and PATHS are JSON: the section `train`, and the paths for
`tasks.train.train`. It writes nothing.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tasks.config import Train
from tasks.errors import InputError, ProcessLost
from tasks.train import train


def main(params: str, paths: str) -> int:
    """Train with the others. Returns the exit status: 0 when done, 1 if another process ended, or 2
    for wrong input."""
    given: dict[str, Any] = {name: Path(path) for name, path in json.loads(paths).items()}
    try:
        train(Train.model_validate_json(params), **given)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ProcessLost:  # process 0 says so
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
