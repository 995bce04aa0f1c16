"""The encoders room."""
