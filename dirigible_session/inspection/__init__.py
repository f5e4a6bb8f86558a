"""Looking at stored sessions.

    from dirigible_session.inspection import Inspector, Selection

    for record in Inspector().records(Selection(state="active")):
        print(record.handle, record.username, record.attributes)

An :class:`Inspector` walks the stored sessions of an engine one by one, in constant memory. It
shows no session key and no secret unless it is told to.
"""

from __future__ import annotations

from .errors import (
    AmbiguousHandle,
    InspectionError,
    NoSuchSession,
    NoSuchUser,
    NotEnded,
    NotListable,
    StoreFailed,
    UnknownEngine,
    UnknownFilter,
    WrongSetting,
)
from .inspector import Inspector
from .records import COLUMNS, KeyedSession, RecordState, SessionRecord
from .redaction import Redactor
from .reporting import attributes_of
from .selection import AttributeFilter, Selection, parsed_duration
from .summary import Summary
from .users import find_user_id

__all__ = [
    "COLUMNS",
    "AmbiguousHandle",
    "AttributeFilter",
    "InspectionError",
    "Inspector",
    "KeyedSession",
    "NoSuchSession",
    "NoSuchUser",
    "NotEnded",
    "NotListable",
    "RecordState",
    "Redactor",
    "Selection",
    "SessionRecord",
    "StoreFailed",
    "Summary",
    "UnknownEngine",
    "UnknownFilter",
    "WrongSetting",
    "attributes_of",
    "find_user_id",
    "parsed_duration",
]
