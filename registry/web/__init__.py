"""The registry as a web page, read-only: what `modelmint models ui` serves.

Pages are rendered by the server and each has an address that can be shared; htmx adds paging and
search as one types. Nothing here writes: the database is read, and of the files of a version only
the curves of its training.
"""

from registry.web.app import make_app
from registry.web.serving import serve

__all__ = ["make_app", "serve"]
