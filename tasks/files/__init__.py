"""Readers of files of rows and of arrays, for training and for batch inference."""
