"""The table of the db engine, and the memory of ``sessions_migrate``."""

# ruff: noqa: D101, RUF012

from django.db import migrations, models

import dirigible_session.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="MigratedSession",
            fields=[
                (
                    "digest",
                    dirigible_session.models.DigestField(
                        max_length=40, primary_key=True, serialize=False
                    ),
                ),
                ("origin", models.CharField(max_length=200)),
                ("source", models.CharField(max_length=40)),
                ("content", models.CharField(max_length=40)),
                ("accessed", models.FloatField()),
                ("seen", models.FloatField()),
            ],
            options={
                "verbose_name": "migrated session",
                "verbose_name_plural": "migrated sessions",
            },
        ),
        migrations.CreateModel(
            name="Session",
            fields=[
                (
                    "digest",
                    dirigible_session.models.DigestField(
                        max_length=40, primary_key=True, serialize=False
                    ),
                ),
                ("created", models.FloatField()),
                ("accessed", models.FloatField()),
                ("expires", models.FloatField(null=True)),
                ("interval", models.BigIntegerField(null=True)),
                ("version", models.IntegerField(default=0)),
                ("expires_day", models.IntegerField(null=True)),
                ("user_id", models.CharField(max_length=255, null=True)),
                ("session_data", models.TextField()),
            ],
            options={
                "verbose_name": "session",
                "verbose_name_plural": "sessions",
                "indexes": [
                    models.Index(fields=["expires_day"], name="dirigible_session_expires"),
                    models.Index(fields=["user_id", "digest"], name="dirigible_session_user"),
                ],
            },
        ),
    ]
