"""Where the raw data is and how it is read: one class for each kind of data."""

import codecs
import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.config.section import Section, Width

Example = Literal["cancer", "diabetes", "fashion", "tweets"]
Kind = Literal["number", "boolean", "date", "category", "text"]


class DigitsSource(Section):
    """scikit-learn's handwritten digits: 1,797 grey 8x8 images of ten classes, embedded."""

    kind: Literal["digits"]
    path: str = "data/raw/digits.csv.gz"
    """Path of the raw file. If it is missing, it is copied from scikit-learn."""


class _Files(Section):
    """Fields that all sources of the user's own files have in common."""

    path: str
    """A file, or a folder of files of one format. DVC tracks it as a whole."""
    pattern: str | None = None
    """A glob for the files of the folder to read, such as `2024-*.csv`; default: all files."""
    test: str | None = None
    """A glob for the files of the folder that are the test split, such as `test*.csv`. The other
    files are split into training and validation."""
    example: Example | None = None
    """A public dataset to download to `path` if nothing exists there: see `examples/README.md`."""


Sign = Annotated[str, Field(min_length=1, max_length=1)]


class Csv(Section):
    """How the text in files is written, for files that are not detected correctly.

    The first three apply to CSV files only, the others to text in all table formats. All of them,
    given or detected, become part of the signature: prediction reads files by the same rules.
    """

    encoding: str | None = None
    """Text encoding, such as `latin-1`. UTF-8 and UTF-16 are detected; other encodings must be
    given."""
    delimiter: Sign | None = None
    """Separator of fields. Detected: comma, semicolon, tab and vertical bar; `.tsv` files always
    have tabs."""
    quote: Sign | None = None
    """Quote around a field that contains the delimiter. Detected: `"` and `'`."""
    decimal: Literal[".", ","] | None = None
    """Decimal sign of numbers. A comma is detected if it is not the delimiter."""
    thousands: Sign | None = None
    """Separator of groups of three digits. Without it, such text is not a number."""
    na_values: list[str] = Field(default=[])
    """Text that means a missing value, in every column. An empty field is always missing."""
    true_values: list[str] = Field(default=[])
    """Text that means true, such as `yes`, in addition to `true`."""
    false_values: list[str] = Field(default=[])
    """Text that means false, such as `no`, in addition to `false`."""
    date_format: str | None = None
    """Format of dates, such as `%d/%m/%Y` (strptime); default: ISO 8601."""

    @model_validator(mode="after")
    def _options_that_can_be(self) -> "Csv":
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError as error:
                raise ValueError(
                    f"encoding {self.encoding!r} is unknown; allowed are utf-8, utf-16, latin-1, "
                    "cp1252 and the other encodings of Python"
                ) from error
        signs = [sign for sign in (self.delimiter, self.quote) if sign]
        if len(set(signs)) < len(signs):
            raise ValueError(f"delimiter and quote are both {self.delimiter!r}")
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            raise ValueError(
                f"decimal and thousands are both {self.thousands!r}; set decimal to another sign"
            )
        if both := set(self.true_values) & set(self.false_values):
            raise ValueError(f"{sorted(both)[0]!r} is in both true_values and false_values")
        if self.date_format is not None:
            day = datetime.datetime(2020, 1, 31)
            try:
                known = datetime.datetime.strptime(day.strftime(self.date_format), self.date_format)
            except ValueError:
                known = None
            if known != day:
                raise ValueError(
                    f"date_format {self.date_format!r} must contain day, month and year, such as "
                    "%d/%m/%Y"
                )
        return self


class _Table(_Files):
    """Files of rows and named columns: `.csv`, `.csv.gz`, `.tsv`, `.parquet`, `.arrow`, `.jsonl`.

    CSV files need a header line; an empty field is a missing value. `separator`, the former name of
    `csv.delimiter`, is accepted.
    """

    target: str | None = None
    """The column to predict. Without one, only a language model can be trained."""
    csv: Csv = Csv()
    """How the text in files is written, where that is not detected correctly."""

    @model_validator(mode="before")
    @classmethod
    def _separator(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "separator" not in data:
            return data
        rest = {name: value for name, value in data.items() if name != "separator"}
        csv = rest.get("csv", {})
        if not isinstance(csv, dict) or csv.get("delimiter"):
            raise ValueError("separator is now called csv.delimiter; remove separator")
        return {**rest, "csv": {**csv, "delimiter": data["separator"]}}


class TabularSource(_Table):
    """A table of numbers, booleans, dates and categories.

    `columns` also accepts `text`, but no architecture takes a text beside other columns so far.
    """

    kind: Literal["tabular"]
    ignore: list[str] = Field(default=[])
    """Columns that are not features."""
    columns: dict[str, Kind] = Field(default={})
    """Types of columns whose values do not show them, such as an integer that is a `category`, or a
    `number` with leading zeros. Text is a category by default. Text that looks like numbers, dates
    or names is refused unless it is declared a `category` here."""
    max_categories: Width = 1000
    """A category with more distinct values than this is refused, because it is probably an
    identifier."""


class ImageSource(_Files):
    """Images: a `.npz` file, IDX files, a folder with one sub-folder per class, or tables.

    `.npz`: `images`, uint8 or floating point of shape (N, H, W) or (N, H, W, C), and `labels`
    (N,). IDX (the MNIST family, also `.gz`): a folder of `*-images-idx3-ubyte` and
    `*-labels-idx1-ubyte`; `t10k-` or `test-` in a name marks the test split. Folders: PNG or JPEG
    files; a folder `train` beside a folder `test` marks the splits. Tables: a column of paths, or
    of bytes of PNG or JPEG files (in Parquet and Arrow, also structs of both). Paths are relative
    to the table's folder; set `path` to that folder, so that DVC tracks the images too. Pickled
    arrays are refused. Transparent pixels are blended with white.
    """

    kind: Literal["image"]
    size: list[Width] | None = Field(default=None, min_length=2, max_length=2)
    """Resize every image file to this height and width in pixels. Without it, all image files must
    have the size of the first."""
    colour: Literal["grey", "rgb"] | None = None
    """Convert every image file to this mode; default: the mode of the first file, and a colour
    image among grey ones is refused."""
    column: str | None = None
    """In tables, the column of paths or bytes; default `image`. If given, a folder is read as
    tables."""
    target: str | None = None
    """In tables, the column to predict; default `label`."""


class Tokenizer(Section):
    """How text is split into tokens; the tokenizer is trained on the training split only.

    `word`: splits at white space and punctuation. `bpe`: byte-pair encoding (Sennrich et al.
    2016, https://arxiv.org/abs/1508.07909). `character`: one token for each character, for scripts
    without spaces and for small data.
    """

    name: Literal["word", "bpe", "character"] = "word"
    """What a token is: a word, a frequent piece of words, or a character."""
    vocabulary: int = Field(default=8000, ge=8)
    """Maximum number of tokens, including the three reserved ones."""
    min_frequency: int = Field(default=2, ge=1)
    """Words and characters that are rarer become the unknown token; rarer pairs are not merged."""
    lowercase: bool = True
    """Convert text to lower case, so that `Word` and `word` are the same token."""
    normalization: Literal["nfc", "nfkc", "none"] = "nfkc"
    """Unicode normalization form."""
    strip_accents: bool = False
    """Remove accents, so that `é` and `e` are the same character."""


class TextSource(_Table):
    """Texts: a column of a table, or a folder with one `.txt` file per class, one text per line.

    The name of a `.txt` file is its class.
    """

    kind: Literal["text"]
    column: str = "text"
    """The column of texts."""
    tokenizer: Tokenizer = Tokenizer()
    """How text is split into tokens."""
    max_length: int = Field(default=128, ge=2)
    """Maximum number of tokens of a text, including the start token; longer texts are truncated."""


class SequenceSource(_Files):
    """Numeric sequences of equal or varying length.

    Parquet or Arrow: a column of lists, of numbers or of lists with the same number of numbers
    each. `.npz`: `sequences` (N, T) or (N, T, F), `labels` (N,), and `lengths` (N,) if they vary.
    """

    kind: Literal["sequence"]
    column: str = "sequence"
    """The column of sequences."""
    target: str = "label"
    """The column to predict."""
    max_length: Width = 512
    """Maximum number of timesteps; longer sequences are truncated."""


Source = Annotated[
    DigitsSource | TabularSource | ImageSource | TextSource | SequenceSource,
    Field(discriminator="kind"),
]
