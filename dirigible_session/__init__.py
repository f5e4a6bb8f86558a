"""Eclipse Dirigible's HTTP session for Django, with the semantics of the Servlet HttpSession."""

from __future__ import annotations

from . import facade
from . import facade as session

__all__ = ["facade", "session"]
__version__ = "1.1.0"
