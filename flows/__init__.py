"""The pipeline under Prefect: the only package that imports it."""
