"""The schema revisions, numbered; a released one is never edited."""
