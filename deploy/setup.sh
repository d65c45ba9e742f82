#!/bin/sh
# Makes what the workers need; every line may be repeated.
set -eu
python - <<'PYTHON'
import os
from urllib.parse import urlsplit

import s3fs

bucket = urlsplit(os.environ["MODELMINT_ARTIFACTS"]).netloc
store = s3fs.S3FileSystem()
if not store.exists(bucket):
    store.mkdir(bucket)
PYTHON
modelmint models init
modelmint prefect work-pool create modelmint --type process --overwrite
modelmint prefect --no-prompt deploy --all
