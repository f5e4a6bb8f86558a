"""The test project: settings, URLs, and the two ways in."""
