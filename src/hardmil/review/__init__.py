"""The review of patches by a person: what to look at, what the verdicts say, their effect.

It starts from the slides that an evaluation held out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
