"""hardmil: attention-MIL classifiers of histology slides, with their hard negatives mined."""
