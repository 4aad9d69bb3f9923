"""Training masks. 1 = hole.

Every generator takes a numpy Generator and nothing else that is random, so that a mask is a function of its seed.
"""

from .coco import decode_runs
from .mixture import FAMILIES, IRREGULAR, Family, MaskConfig, Mixture, patch_ratio, top_up

__all__ = ["FAMILIES", "IRREGULAR", "Family", "MaskConfig", "Mixture", "decode_runs", "patch_ratio", "top_up"]
