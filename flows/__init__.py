"""The pipeline under Prefect: the only package that imports it."""

from flows.git import forget_the_callers_repository

# Every command and every flow process imports this package first, before DVC or a child starts.
forget_the_callers_repository()
