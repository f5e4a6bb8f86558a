"""Looking at stored sessions.

    from dirigible_session.inspection import Inspector, Selection

    for record in Inspector().records(Selection(state="active")):
        print(record.handle, record.username, record.attributes)

An :class:`Inspector` walks the stored sessions of an engine one by one, in constant memory. It
shows no session key and no secret unless it is told to.
"""

from __future__ import annotations

from dirigible_session.stored import RecordState, StoredSession, attributes_of

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
    UnknownPosition,
    WrongSetting,
)
from .inspector import EndedPage, Inspector, Page
from .records import COLUMNS, SessionRecord, Summary
from .redaction import Redactor
from .selection import AttributeFilter, Selection, parsed_duration
from .users import find_user_id

#: The former name of a stored session with its key.
KeyedSession = StoredSession

__all__ = [
    "COLUMNS",
    "AmbiguousHandle",
    "AttributeFilter",
    "EndedPage",
    "InspectionError",
    "Inspector",
    "KeyedSession",
    "NoSuchSession",
    "NoSuchUser",
    "NotEnded",
    "NotListable",
    "Page",
    "RecordState",
    "Redactor",
    "Selection",
    "SessionRecord",
    "StoreFailed",
    "Summary",
    "UnknownEngine",
    "UnknownFilter",
    "UnknownPosition",
    "WrongSetting",
    "attributes_of",
    "find_user_id",
    "parsed_duration",
]
