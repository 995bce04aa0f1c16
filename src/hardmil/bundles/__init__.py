"""A trained model as a folder: train it, load it, predict slides and cases with it.

Also the hard negatives that fool it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
