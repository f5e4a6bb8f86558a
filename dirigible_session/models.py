"""The table of the db engine, and the record of ``sessions_migrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from .handles import DIGEST_LENGTH
from .stored import USER_ID_LENGTH

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    TextColumn = models.CharField[str, str]
else:
    TextColumn = models.CharField


class DigestField(TextColumn):
    """A digest in hex: it has a fixed length, and is looked up by equality or by range.

    On PostgreSQL, Django adds a second index for LIKE to a key whose type is named ``varchar``.
    It would never be used, so this field uses another name of the type.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        """Return the standard name of the type on PostgreSQL."""
        if connection.vendor == "postgresql":
            return f"character varying({self.max_length})"
        return super().db_type(connection)


class AbstractSession(models.Model):
    """One session of an engine that derives from ``dirigible_session.backends.db``.

    All times are seconds since the epoch, as in ``lifecycle``: exact, independent of ``USE_TZ``,
    and cheap to read.

    Every request of a busy session may write ``accessed`` and ``expires``. PostgreSQL does that
    without writing to any index (a heap-only update) if no indexed column changes, so neither
    column has an index. ``clearsessions`` finds expired sessions by ``expires_day``, the day (UTC,
    counted from the epoch) on which the session ends. It is indexed, and a touch changes it at
    most once a day. ``user_id`` changes at login and logout.
    """

    #: ``handles.digest`` of the session key. The key itself is not stored.
    digest = DigestField(max_length=DIGEST_LENGTH, primary_key=True)
    #: The digest of the first key, NULL until the key is changed. It distinguishes a session whose
    #: key was changed from a session that was ended.
    first_digest = models.CharField(max_length=DIGEST_LENGTH, null=True)  # noqa: DJ001
    created = models.FloatField()
    accessed = models.FloatField()
    #: When the session ends by any limit; NULL: never.
    expires = models.FloatField(null=True)
    #: The interval if it was set to zero or less, see ``lifecycle.Times``.
    interval = models.BigIntegerField(null=True)
    #: When the session's user last logged in; NULL: anonymous, or unknown.
    authenticated = models.FloatField(null=True)
    #: Counts the writes, except touches. A save requires the version that it has read.
    version = models.IntegerField(default=0)
    expires_day = models.IntegerField(null=True)
    #: The primary key of the logged-in user, as text; NULL: anonymous. An empty text could be a
    #: primary key.
    user_id = models.CharField(max_length=USER_ID_LENGTH, null=True)  # noqa: DJ001
    #: A JSON object in ASCII, in the order in which the attributes were first set.
    session_data = models.TextField()

    class Meta:
        """Indexes and names."""

        abstract = True
        # db_index would add a second index for LIKE on PostgreSQL. The indexes have no names here
        # because Django's names fit any database and are unique for each model.
        indexes = (
            models.Index(fields=["expires_day"]),
            # Readers order by the digest. Without it, the database might use the primary key.
            models.Index(fields=["user_id", "digest"]),
            models.Index(fields=["first_digest"]),
        )
        verbose_name = _("session")
        verbose_name_plural = _("sessions")

    def __str__(self) -> str:
        return self.digest

    @classmethod
    def get_session_store_class(cls) -> type[Any]:
        """Return the store class of the engine that uses this table."""
        # It is imported by name because the engine depends on the models.
        store_class: type[Any] = import_string("dirigible_session.backends.db.SessionStore")
        return store_class

    def get_decoded(self) -> dict[str, Any]:
        """Return the session's data; {} if it is damaged, which is logged."""
        data: dict[str, Any] = self.get_session_store_class()().decode(self.session_data)
        return data


class Session(AbstractSession):
    """One session of ``dirigible_session.backends.db``."""

    class Meta(AbstractSession.Meta):
        """Indexes, with the names in the first migration."""

        indexes = (
            models.Index(fields=["expires_day"], name="dirigible_session_expires"),
            models.Index(fields=["user_id", "digest"], name="dirigible_session_user"),
            models.Index(fields=["first_digest"], name="dirigible_session_first"),
        )


class MigratedSession(models.Model):
    """A session that ``sessions_migrate`` copied, to detect later changes in either engine.

    The row is kept as long as the session exists in the engine that it was copied from.
    """

    digest = DigestField(max_length=DIGEST_LENGTH, primary_key=True)
    #: The engine that it was copied from, as a dotted path.
    origin = models.CharField(max_length=200)
    #: The engine that it was copied into, as a dotted path; empty in rows of version 1.0.
    target = models.CharField(max_length=200, default="")
    #: Fingerprint of the session in the old engine, its times included; empty until it was copied.
    source = models.CharField(max_length=DIGEST_LENGTH)
    #: Fingerprint of the attributes that were written to the new engine; empty until then.
    content = models.CharField(max_length=DIGEST_LENGTH)
    #: Fingerprint of the attributes that are about to be written; empty if none are.
    pending = models.CharField(max_length=DIGEST_LENGTH, default="")
    #: The last access that was written to the new engine.
    accessed = models.FloatField()
    #: The start of the last run that found it in the engine that it was copied from.
    seen = models.FloatField()

    class Meta:
        """Names."""

        verbose_name = "migrated session"
        verbose_name_plural = "migrated sessions"

    def __str__(self) -> str:
        return self.digest
