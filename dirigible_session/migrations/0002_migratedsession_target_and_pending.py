"""Remembers where ``sessions_migrate`` copies to, and what it is about to write there."""

# ruff: noqa: D101, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("dirigible_session", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="migratedsession",
            name="target",
            field=models.CharField(default="", max_length=200),
        ),
        migrations.AddField(
            model_name="migratedsession",
            name="pending",
            field=models.CharField(default="", max_length=40),
        ),
    ]
