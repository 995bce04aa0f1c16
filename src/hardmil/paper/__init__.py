"""The paper room."""
