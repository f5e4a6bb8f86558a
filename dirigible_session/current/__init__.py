"""The session of the current request: what is known of it, and where code finds it."""
