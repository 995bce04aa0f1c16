"""The mil room."""
