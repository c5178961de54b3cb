"""Evaluation of identity-preserving text-to-video generation: metrics, features, and the suite.

Names are imported when they are first used, so that ``import metrics`` costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
