"""Checks of everything that callers pass in, before anything is written."""
