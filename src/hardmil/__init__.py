"""hardmil: attention-MIL classifiers of histology slides, with their hard negatives mined."""


def __getattr__(name: str) -> object:
    """`MILClassifier`, imported when first asked for: it brings torch."""
    if name == "MILClassifier":
        from hardmil.estimator import MILClassifier

        return MILClassifier
    raise AttributeError(f"module 'hardmil' has no attribute {name!r}")
