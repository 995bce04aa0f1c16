"""One file a command; the only place that joins study and report."""
