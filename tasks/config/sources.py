"""Where raw data lies and how it is read: one class for each kind of data."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.config.section import Section, Width

Example = Literal["cancer", "diabetes", "fashion", "tweets"]
Kind = Literal["number", "boolean", "date", "category"]


class DigitsSource(Section):
    """scikit-learn's handwritten digits: 1,797 grey 8x8 images of ten classes, embedded."""

    kind: Literal["digits"]
    path: str = "data/raw/digits.csv.gz"
    """Where the raw file lies. It is put there from scikit-learn when it is missing."""


class _Files(Section):
    """What all sources of the user's own files have in common."""

    path: str
    """A file, or a folder of files of one form. DVC tracks it whole."""
    pattern: str | None = None
    """Which files of the folder to read, a glob such as `2024-*.csv`; without it, all of them."""
    test: str | None = None
    """Which files of the folder are the test split, a glob such as `test*.csv`, where it was made
    elsewhere; the others are split in two, training and validation."""
    example: Example | None = None
    """A public dataset to put at `path` when nothing lies there: see `examples/README.md`."""


class _Table(_Files):
    """Files of rows and named columns: `.csv`, `.csv.gz`, `.tsv`, `.parquet`, `.arrow`, `.jsonl`.

    CSV has a header line and is UTF-8; an empty field is a missing value.
    """

    target: str | None = None
    """The column to predict. Without one, only a language model can be trained."""
    separator: str = Field(default=",", min_length=1, max_length=1)
    """What stands between the fields of a CSV file; a `.tsv` file is separated by tabs."""


class TabularSource(_Table):
    """A table of numbers, booleans, dates and categories."""

    kind: Literal["tabular"]
    ignore: list[str] = Field(default=[])
    """Columns that are no features."""
    columns: dict[str, Kind] = Field(default={})
    """What a column is, where its type does not say: an integer that is a `category`, text that
    is a `date` (ISO 8601). By type, text is a category."""
    max_categories: Width = 1000
    """More distinct values than this in a category are refused: such a column is an identifier."""


class ImageSource(_Files):
    """Images of one size: a `.npz` file, IDX files, or a folder with one sub-folder per class.

    `.npz`: `images`, uint8 or floating point of shape (N, H, W) or (N, H, W, C), and `labels`
    (N,). IDX (`.gz` too, the MNIST family): a folder of `*-images-idx3-ubyte` and
    `*-labels-idx1-ubyte`; `t10k-` or `test-` in a name marks the test split. Folders: PNG or JPEG
    files; a folder `train` beside a folder `test` marks the splits. Nothing is unpickled.
    """

    kind: Literal["image"]
    size: list[Width] | None = Field(default=None, min_length=2, max_length=2)
    """Height and width in pixels to which every image file is resized; without it, one of another
    size than the first is refused."""
    colour: Literal["grey", "rgb"] | None = None
    """Convert image files to this; without it, they are what the first of them is, and a colour
    image among grey ones is refused."""


class Tokenizer(Section):
    """How text becomes tokens; trained on the training split alone.

    `word`: splits at white space and punctuation. `bpe`: byte-pair encoding (Sennrich et al.
    2016, https://arxiv.org/abs/1508.07909). `character`: one token each, for scripts without
    spaces and for small data.
    """

    name: Literal["word", "bpe", "character"] = "word"
    """What a token is: a word, a frequent piece of words, or a character."""
    vocabulary: int = Field(default=8000, ge=8)
    """The most tokens, the three reserved ones included."""
    min_frequency: int = Field(default=2, ge=1)
    """A word or character that is rarer is unknown; a rarer pair is not merged."""
    lowercase: bool = True
    """Whether `Word` and `word` are one token."""
    normalization: Literal["nfc", "nfkc", "none"] = "nfkc"
    """Unicode normalization form."""
    strip_accents: bool = False
    """Whether `é` and `e` are one character."""


class TextSource(_Table):
    """Texts: a column of a table, or a folder with one `.txt` file per class, a text on each line.

    The name of such a file is its class.
    """

    kind: Literal["text"]
    column: str = "text"
    """The column of texts."""
    tokenizer: Tokenizer = Tokenizer()
    """How text becomes tokens."""
    max_length: int = Field(default=128, ge=2)
    """The most tokens of a text, the one for its beginning included; what is longer is cut."""


class SequenceSource(_Files):
    """Numeric sequences of equal or varying length.

    Parquet or Arrow: a list column, of numbers or of lists of as many numbers each. `.npz`:
    `sequences` (N, T) or (N, T, F), `labels` (N,), and `lengths` (N,) where they vary.
    """

    kind: Literal["sequence"]
    column: str = "sequence"
    """The column of sequences."""
    target: str = "label"
    """The column to predict."""
    max_length: Width = 512
    """The most steps of a sequence; what is longer is cut."""


Source = Annotated[
    DigitsSource | TabularSource | ImageSource | TextSource | SequenceSource,
    Field(discriminator="kind"),
]
