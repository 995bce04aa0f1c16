"""The slides room."""
