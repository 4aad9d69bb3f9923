"""Socket types of the ASUKA nodes.

ASUKA_MAE, ASUKA_ALIGNMENT, ASUKA_DECODER and ASUKA_SPL carry a `networks.Network` (FLUX's alignment has a second one in
`pooled`), ASUKA_PRIOR a tensor (B, 256, C) with the width C of the MAE's decoder, ASUKA_STITCH a `prepare.Stitch`, and
ASUKA_TRAJECTORY a `ddim_invert.Trajectory`.
"""

from comfy_api.latest import io

MAE = io.Custom("ASUKA_MAE")
Alignment = io.Custom("ASUKA_ALIGNMENT")
Decoder = io.Custom("ASUKA_DECODER")
SPL = io.Custom("ASUKA_SPL")
Prior = io.Custom("ASUKA_PRIOR")
Stitch = io.Custom("ASUKA_STITCH")
Trajectory = io.Custom("ASUKA_TRAJECTORY")
