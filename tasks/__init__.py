"""The steps of the pipeline: plain functions that know nothing of Prefect or SQL."""
