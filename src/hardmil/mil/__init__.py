"""Bags -> bag score and attention."""
