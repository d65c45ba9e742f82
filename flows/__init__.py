"""The pipeline under Prefect: the only package that imports it."""

from flows.git import forget_the_callers_repository

# Every command and flow process imports this package before it uses DVC or starts a child process.
forget_the_callers_repository()
