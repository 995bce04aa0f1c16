"""Drawings of heat maps, patches and curves, without a study.

As PNG, SVG, WebP and OME-TIFF.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
