"""Text files with one text per line, for training and prediction."""

from collections.abc import Iterator
from pathlib import Path

from tasks.errors import InputError
from tasks.files import suffixes
from tasks.files.tables import reading

SUFFIX = suffixes.LINES


def raw(path: Path) -> Iterator[bytes]:
    """The lines of a file, blank ones included, without line ends (LF or CRLF).

    Raises:
        InputError: the file is missing.
    """
    with reading(path), path.open("rb") as stream:
        for number, line in enumerate(stream):
            line = line if number else line.removeprefix(b"\xef\xbb\xbf")
            yield line.removesuffix(b"\n").removesuffix(b"\r")


def texts(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, blank ones included, without line ends (LF or CRLF).

    Raises:
        InputError: the file is missing, or a line is not UTF-8; names the row, from 1.
    """
    for number, line in enumerate(raw(path), 1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, row {number}: not UTF-8: {error}. Convert the file, for instance "
                "with iconv"
            ) from error
