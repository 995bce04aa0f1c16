"""The checks of `hardmil doctor`: installation, encoders, duplicates, abutting tiles, a study."""
