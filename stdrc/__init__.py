"""ST-DRC: identity-preserving text-to-video by in-context reference conditioning on LTX-2.

Names are imported when they are first used, so that `import stdrc` does not wait for diffusers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
