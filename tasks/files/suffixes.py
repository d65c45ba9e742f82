"""Suffixes of supported files. Imports nothing, so that help texts can use it."""

TABLES = (
    ".csv",
    ".csv.gz",
    ".tsv",
    ".tsv.gz",
    ".parquet",
    ".arrow",
    ".jsonl",
    ".jsonl.gz",
)
"""Files of rows and named columns: the keys of `formats.FORMATS`, also compressed."""
ARRAYS = ".npz"
"""Files of NumPy arrays."""
LINES = ".txt"
"""Files with one text per line."""
IMAGES = (".png", ".jpg", ".jpeg")
"""Image files; upper case is accepted too."""
IDX = ("images-idx3-ubyte", "images-idx3-ubyte.gz")
"""Image files of the MNIST family."""
FOLDER = "folder"
"""Not a suffix: a folder of image files, or a list of image files."""
PREDICTED = (*TABLES, ARRAYS, LINES, *IMAGES, *IDX)
"""Files that a batch job reads."""
