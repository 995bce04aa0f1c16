"""hardmil: attention-MIL classifiers of histology slides, with hard negative mining.

docs/python.md shows its functions in use. Each is imported when it is first used: some of them need torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
