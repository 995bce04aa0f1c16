"""Is it better? Arms x repeats x folds."""
