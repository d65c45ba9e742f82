"""The steps of the pipeline: plain functions that know nothing of Prefect or SQL."""

import os

# Before anything imports it: since 1.29, ONNX Runtime sends names and hashes of models to Microsoft
# (and makes a database in the user's cache folder) unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
