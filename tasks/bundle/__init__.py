"""The files of a bundle, and classes for the documents among them. Imports no torch."""
