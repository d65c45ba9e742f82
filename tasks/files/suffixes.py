"""What names of files end in, by what reads them; imports nothing, so that help texts may."""

TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".arrow", ".jsonl", ".jsonl.gz")
"""Files of rows and named columns."""
PREDICTED = (*TABLES, ".npz")
"""Files that a batch job reads."""
