"""The registry as a read-only web page, served by `modelmint models ui`.

Pages are rendered by the server, and each has an address that can be shared; htmx adds paging and
search while typing. Nothing here writes. Of the files of a version, only history.csv is read.
"""

from registry.web.app import make_app
from registry.web.serving import serve

__all__ = ["make_app", "serve"]
