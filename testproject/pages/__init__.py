"""The pages of the test project: the session facade at work."""
