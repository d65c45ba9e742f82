"""What names of files end in, by what reads them; imports nothing, so that help texts may."""

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
"""Files of rows and named columns: the keys of `formats.FORMATS`, and their compressed forms."""
ARRAYS = ".npz"
"""Files of NumPy arrays."""
LINES = ".txt"
"""Files of texts, one on each line."""
IMAGES = (".png", ".jpg", ".jpeg")
"""Image files, in any case."""
IDX = ("images-idx3-ubyte", "images-idx3-ubyte.gz")
"""Files of images of the MNIST family."""
FOLDER = "folder"
"""Not a suffix: a folder of image files, or such files named one by one."""
PREDICTED = (*TABLES, ARRAYS, LINES, *IMAGES, *IDX)
"""Files that a batch job reads."""
