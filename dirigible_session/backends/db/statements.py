"""The SQL statements of loads and saves. Each text is built once and cached.

Django compiles a query whenever it is executed, which takes longer than PostgreSQL takes to answer
it. These statements are plain SQL with Django's quoting, parameters and cursors, the same for
every database that the engine supports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from django.db import connections, models, transaction

from dirigible_session.stored import read_undecoded

Model = type[models.Model]


def select(model: Model, using: str, columns: tuple[str, ...], digest: str) -> Any:
    """Return the columns of a session's row; None if it does not exist."""
    statement = _statement(model, using, "SELECT", columns, ("digest =",))

    def query() -> Any:
        with connections[using].cursor() as cursor:
            cursor.execute(statement, [digest])
            return cursor.fetchone()

    return read_undecoded(using, query)


def update(
    model: Model, using: str, values: Mapping[str, Any], conditions: Mapping[str, Any]
) -> bool:
    """Set columns of the row that meets the conditions; return whether a row did.

    The key of a condition is a column and an operator, such as ``"version ="``.
    """
    statement = _statement(model, using, "UPDATE", tuple(values), tuple(conditions))
    return _run(using, statement, values, conditions)


def delete(model: Model, using: str, conditions: Mapping[str, Any]) -> bool:
    """Delete the row that meets the conditions; return whether a row did."""
    statement = _statement(model, using, "DELETE", (), tuple(conditions))
    return _run(using, statement, conditions)


def _run(using: str, statement: str, *parameters: Mapping[str, Any]) -> bool:
    with (
        transaction.mark_for_rollback_on_error(using=using),
        connections[using].cursor() as cursor,
    ):
        cursor.execute(statement, [value for values in parameters for value in values.values()])
        return bool(cursor.rowcount)


def delete_all(model: Model, using: str, digests: Sequence[str]) -> set[str]:
    """Delete rows and return the digests of the deleted rows."""
    connection = connections[using]
    quote = connection.ops.quote_name
    table, digest = quote(model._meta.db_table), quote("digest")

    def run(statement: str, values: Sequence[str]) -> set[str]:
        with connection.cursor() as cursor:
            cursor.execute(statement % ", ".join(["%s"] * len(values)), values)
            return {row[0] for row in cursor.fetchall()} if cursor.description else set()

    if connection.features.can_return_columns_from_insert:
        with transaction.mark_for_rollback_on_error(using=using):
            return run(
                f"DELETE FROM {table} WHERE {digest} IN (%s) RETURNING {digest}",  # noqa: S608
                digests,
            )
    # Only the transaction that has locked a row deletes it.
    lock = connection.ops.for_update_sql() if connection.features.has_select_for_update else ""
    with transaction.atomic(using=using, savepoint=False):
        if not lock:
            # On SQLite before 3.35, any write locks the whole database.
            run(f"DELETE FROM {table} WHERE {digest} IN (%s) AND 1 = 0", digests)  # noqa: S608
        found = run(f"SELECT {digest} FROM {table} WHERE {digest} IN (%s) {lock}", digests)  # noqa: S608
        if found:
            run(f"DELETE FROM {table} WHERE {digest} IN (%s)", list(found))  # noqa: S608
        return found


@lru_cache
def further(model: Model) -> tuple[Any, ...]:
    """Return the fields of a model that ``AbstractSession`` does not have, to be stored as well."""
    from dirigible_session.models import Session

    known = {field.attname for field in Session._meta.concrete_fields}
    return tuple(
        field
        for field in model._meta.concrete_fields
        if field.attname not in known and not field.generated
    )


@lru_cache
def _statement(
    model: Model, using: str, verb: str, columns: tuple[str, ...], conditions: tuple[str, ...]
) -> str:
    quote = connections[using].ops.quote_name
    names = [quote(column) for column in columns]
    begin = {
        "SELECT": f"SELECT {', '.join(names)} FROM {quote(model._meta.db_table)}",  # noqa: S608
        "UPDATE": f"UPDATE {quote(model._meta.db_table)} SET {' = %s, '.join(names)} = %s",  # noqa: S608
        "DELETE": f"DELETE FROM {quote(model._meta.db_table)}",  # noqa: S608
    }
    pairs = [condition.split() for condition in conditions]
    where = " AND ".join(f"{quote(column)} {operator} %s" for column, operator in pairs)
    return f"{begin[verb]} WHERE {where}"
