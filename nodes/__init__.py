"""The extension's nodes (V3)."""

from comfy_api.latest import ComfyExtension, io

from .align import ASUKA_AlignConditioning
from .clean_mask import ASUKA_CleanMask
from .ddim_invert import ASUKA_DDIMInvert
from .decode import ASUKA_HarmonizingVAEDecode
from .diffedit_decode import ASUKA_DiffEditDecode
from .diffedit_mask import ASUKA_DiffEditMask
from .guidance import ASUKA_MAEPriorGuidance
from .inpaint_conditioning import ASUKA_InpaintConditioning
from .load import ASUKA_Load, register_model_folder
from .prepare import ASUKA_InpaintPrepare
from .prior import ASUKA_MAEPriorEncode
from .repaint import ASUKA_RePaint
from .spl import ASUKA_InpaintSPL
from .stitch import ASUKA_InpaintStitch


class ASUKAExtension(ComfyExtension):
    """All nodes of this extension, and the model folder that they need."""

    async def on_load(self) -> None:
        """Register models/asuka with ComfyUI."""
        register_model_folder()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the node classes in the order of the workflow."""
        return [
            ASUKA_Load,
            ASUKA_InpaintPrepare,
            ASUKA_MAEPriorEncode,
            ASUKA_AlignConditioning,
            ASUKA_MAEPriorGuidance,
            ASUKA_InpaintConditioning,
            ASUKA_HarmonizingVAEDecode,
            ASUKA_InpaintStitch,
            ASUKA_DiffEditMask,
            ASUKA_CleanMask,
            ASUKA_DDIMInvert,
            ASUKA_DiffEditDecode,
            ASUKA_InpaintSPL,
            ASUKA_RePaint,
        ]


async def comfy_entrypoint() -> ComfyExtension:
    """Return the extension: ComfyUI calls this when it loads the folder."""
    return ASUKAExtension()
