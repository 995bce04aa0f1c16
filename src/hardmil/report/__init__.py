"""The pages: report, gallery of hard negatives, key patches, contact sheet; and their templates.

Also an evaluation from the first trial to its report.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
