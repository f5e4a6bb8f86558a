"""Signals for audit, clean-up and metrics.

The sender is the session's store class. Each carries ``session`` and ``request`` (None where
there is none). A receiver that raises is logged and stops nothing. After the Servlet interfaces
``HttpSessionListener``, ``HttpSessionIdListener`` and ``HttpSessionAttributeListener``.
"""

from __future__ import annotations

from django.dispatch import Signal

#: Once, at the end of the request in which a new session was stored, whoever created it. It may be
#: stored so late that no request is current any more, and what a receiver changes is not kept.
session_created = Signal()

#: A session is being ended by the facade or a tool of this package, its attributes still
#: readable; with ``handle`` (None for one that was never stored). Where sync code ends it in an
#: event loop, async receivers are told after that.
session_invalidated = Signal()

#: The facade changed the session's id; with ``old_handle`` and ``new_handle``.
session_id_changed = Signal()

#: The facade added an attribute; with ``name`` and ``value``.
attribute_added = Signal()

#: The facade replaced an attribute, or a value that it gave out was changed in place (sent at the
#: end of the request); with ``name``, ``value`` and ``old_value``.
attribute_replaced = Signal()

#: The facade removed an attribute; with ``name`` and ``old_value``.
attribute_removed = Signal()
