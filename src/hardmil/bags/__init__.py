"""The bags room."""
