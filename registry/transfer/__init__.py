"""Carrying versions, and whole registries, from one place to another."""
