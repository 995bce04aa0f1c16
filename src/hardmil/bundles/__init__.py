"""The bundles room."""
