"""Text files with one text per line, for training and prediction."""

from collections.abc import Iterator
from pathlib import Path

from tasks.errors import InputError
from tasks.files import suffixes
from tasks.files.tables import reading

SUFFIX = suffixes.LINES


def texts(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, including blank lines, without line ends (LF or CRLF).

    Raises:
        InputError: the file is missing, or a line is not UTF-8; names the row, from 1.
    """
    with reading(path), path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                yield line.decode("utf-8").removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, row {number}: not UTF-8: {error}. Convert the file to UTF-8, for "
                    "instance with iconv"
                ) from error
