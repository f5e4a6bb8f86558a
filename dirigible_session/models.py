"""The table of the db engine, and the memory of ``sessions_migrate``."""

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
    """A digest in hex: always of one length, and looked up whole or by ranges.

    A ``varchar`` key gets a second index from Django on PostgreSQL, for LIKE, which nobody asks.
    It is known by the name of the type, and this type has another.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        """Return the standard's name of the type, where Django's has a price."""
        if connection.vendor == "postgresql":
            return f"character varying({self.max_length})"
        return super().db_type(connection)


class AbstractSession(models.Model):
    """One session of an engine that derives from ``dirigible_session.backends.db``.

    All moments are seconds since the epoch, as in ``lifecycle``: exact to the bit, the same with
    and without ``USE_TZ``, and cheap to read.

    Each request of a busy session may write ``accessed`` and ``expires``. PostgreSQL does that
    without touching any index (a heap-only update) as long as no indexed column changes, so
    neither has one. ``clearsessions`` finds what is over by ``expires_day`` instead, the day (UTC,
    counted from the epoch) on which the session ends: an index of its own, which a touch changes
    once a day at most. ``user_id`` changes at login and logout.
    """

    #: ``handles.digest`` of the session key, which is stored nowhere.
    digest = DigestField(max_length=DIGEST_LENGTH, primary_key=True)
    #: The digest of its first key, once the key was changed; NULL before. It tells a session that
    #: has another key by now from one that was ended.
    first_digest = models.CharField(max_length=DIGEST_LENGTH, null=True)  # noqa: DJ001
    created = models.FloatField()
    accessed = models.FloatField()
    #: When the session ends by any limit; NULL: never.
    expires = models.FloatField(null=True)
    #: The interval if it was set to zero or less, see ``lifecycle.Times``.
    interval = models.BigIntegerField(null=True)
    #: When the session's user last logged in; NULL: nobody did, or nobody can tell.
    authenticated = models.FloatField(null=True)
    #: Counts the writes; a save is for the version that it read. A touch does not count.
    version = models.IntegerField(default=0)
    expires_day = models.IntegerField(null=True)
    #: The primary key, as text, of the user who is logged in; NULL: nobody. An empty text could
    #: be a primary key.
    user_id = models.CharField(max_length=USER_ID_LENGTH, null=True)  # noqa: DJ001
    #: A JSON object in ASCII, in the order in which the attributes were first set.
    session_data = models.TextField()

    class Meta:
        """Indexes and names."""

        abstract = True
        # Not db_index: on PostgreSQL that adds a second index, for LIKE. Not named either: Django's
        # names fit any database, and differ for two apps with models of one name.
        indexes = (
            models.Index(fields=["expires_day"]),
            # With the digest, in whose order readers walk: else it would be walked by the digest.
            models.Index(fields=["user_id", "digest"]),
            models.Index(fields=["first_digest"]),
        )
        verbose_name = _("session")
        verbose_name_plural = _("sessions")

    def __str__(self) -> str:
        return self.digest

    @classmethod
    def get_session_store_class(cls) -> type[Any]:
        """Return the store class of the engine whose table this is."""
        # By name, since the engine stands on its table.
        store_class: type[Any] = import_string("dirigible_session.backends.db.SessionStore")
        return store_class

    def get_decoded(self) -> dict[str, Any]:
        """Return the session's data; {} if it is damaged, which is logged."""
        data: dict[str, Any] = self.get_session_store_class()().decode(self.session_data)
        return data


class Session(AbstractSession):
    """One session of ``dirigible_session.backends.db``."""

    class Meta(AbstractSession.Meta):
        """Indexes, by the names that they have had from the beginning."""

        indexes = (
            models.Index(fields=["expires_day"], name="dirigible_session_expires"),
            models.Index(fields=["user_id", "digest"], name="dirigible_session_user"),
            models.Index(fields=["first_digest"], name="dirigible_session_first"),
        )


class MigratedSession(models.Model):
    """What ``sessions_migrate`` copied, so that it can tell who wrote, or ended, what since.

    A row lasts as long as the session is in the engine that it was copied from.
    """

    digest = DigestField(max_length=DIGEST_LENGTH, primary_key=True)
    #: The engine that it was copied from, as a dotted path.
    origin = models.CharField(max_length=200)
    #: The engine that it was copied into, as a dotted path; empty in rows of version 1.0.
    target = models.CharField(max_length=200, default="")
    #: Fingerprint of the session in the old engine, its times included; empty until it was copied.
    source = models.CharField(max_length=DIGEST_LENGTH)
    #: Fingerprint of the attributes that were written to the new engine; empty: none were yet.
    content = models.CharField(max_length=DIGEST_LENGTH)
    #: Fingerprint of the attributes that are about to be; empty if none are.
    pending = models.CharField(max_length=DIGEST_LENGTH, default="")
    #: The last access that was written to the new engine.
    accessed = models.FloatField()
    #: When the run began that last saw it in the engine that it was copied from.
    seen = models.FloatField()

    class Meta:
        """Names."""

        verbose_name = "migrated session"
        verbose_name_plural = "migrated sessions"

    def __str__(self) -> str:
        return self.digest
