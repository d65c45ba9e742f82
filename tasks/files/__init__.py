"""Files of rows and of arrays, read for sources and for batch inference alike."""
