"""The bundle: the files of a model, and the typed classes that read and write them."""
