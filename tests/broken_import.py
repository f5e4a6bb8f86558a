"""A module that can't be imported, for a reason that is no ImportError."""

from __future__ import annotations

raise LookupError
