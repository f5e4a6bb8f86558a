"""Remembers what ``sessions_migrate`` is about to write to a store outside of the database."""

# ruff: noqa: D101, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("dirigible_session", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="migratedsession",
            name="pending",
            field=models.CharField(default="", max_length=40),
        ),
    ]
