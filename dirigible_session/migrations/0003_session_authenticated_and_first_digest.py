"""Keeps when a session's user last logged in, and what its first key was, as a digest."""

# ruff: noqa: D101, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("dirigible_session", "0002_migratedsession_target_and_pending")]

    operations = [
        migrations.AddField(
            model_name="session",
            name="authenticated",
            field=models.FloatField(null=True),
        ),
        migrations.AddField(
            model_name="session",
            name="first_digest",
            field=models.CharField(max_length=40, null=True),
        ),
        migrations.AddIndex(
            model_name="session",
            index=models.Index(fields=["first_digest"], name="dirigible_session_first"),
        ),
    ]
