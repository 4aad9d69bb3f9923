"""The extension's nodes (V3)."""

from comfy_api.latest import ComfyExtension, io

from .align import ASUKA_AlignConditioning
from .decode import ASUKA_HarmonizingVAEDecode
from .load import ASUKA_Load, register_model_folder
from .prepare import ASUKA_InpaintPrepare
from .prior import ASUKA_MAEPriorEncode
from .stitch import ASUKA_InpaintStitch


class ASUKAExtension(ComfyExtension):
    async def on_load(self) -> None:
        register_model_folder()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            ASUKA_Load,
            ASUKA_InpaintPrepare,
            ASUKA_MAEPriorEncode,
            ASUKA_AlignConditioning,
            ASUKA_HarmonizingVAEDecode,
            ASUKA_InpaintStitch,
        ]


async def comfy_entrypoint() -> ComfyExtension:
    return ASUKAExtension()
