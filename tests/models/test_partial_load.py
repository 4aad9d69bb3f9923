"""In a partial load ComfyUI moves the layers and leaves everything else where it was: on another device, in another type.

Tensors that have a device and no data (torch's own FakeTensorMode) show on any machine what would fail on a GPU.
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from asuka_modules.alignment import Alignment, AlignmentConfig
from asuka_modules.decoder import DecoderConfig, HarmonizingDecoder
from asuka_modules.mae import MAE, MAEConfig
from asuka_modules.spl import SPLConfig, SPLGenerator

SIZE = 64
TINY_MAE = MAEConfig(SIZE, 8, 32, 2, 4, 16, 2, 2, prior_depth=1)
IMAGE, MASK = (2, 3, SIZE, SIZE), (2, 1, SIZE, SIZE)
NETWORKS = {
    "mae": (MAE(TINY_MAE), (IMAGE, MASK)),
    "mae with class token and partial patches": (
        MAE(MAEConfig(SIZE, 8, 32, 2, 4, 16, 2, 2, prior_depth=1, partial_patches=True, class_token=True)),
        (IMAGE, MASK),
    ),
    "alignment": (Alignment(AlignmentConfig(24, 32, head_dim=8)), ((2, 16, 24),)),
    "alignment with queries": (Alignment(AlignmentConfig(24, 32, head_dim=8, num_queries=7)), ((2, 16, 24),)),
    "decoder": (HarmonizingDecoder(DecoderConfig(ch=32, num_res_blocks=1)), ((2, 4, SIZE // 8, SIZE // 8), IMAGE, MASK)),
    "spl": (
        SPLGenerator(SPLConfig(8, feature_dim=5, dense_blocks=2, dense_layers=2, growth=4, recon_blocks=1, middle_blocks=2)),
        (IMAGE, MASK),
    ),
}  # fmt: skip


def load_layers(network: nn.Module, device: str) -> None:
    """Layers to `device`; what other modules hold themselves stays on the CPU, in half precision."""
    for module in network.modules():
        layer = not list(module.children())
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    where = {"device": device} if layer else {"device": "cpu", "dtype": torch.float16}
                    placed = torch.empty(tensor.shape, **where)
                    tensors[name] = nn.Parameter(placed) if tensors is module._parameters else placed


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_run_where_their_layers_are(name, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "__int__", lambda tensor: 40)  # the MAE's visible patches, which without data
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda tensor: True)  # are of an unknown and differing number
    network, shapes = NETWORKS[name]
    device = torch.device("cuda:0")
    with torch.no_grad(), FakeTensorMode():
        load_layers(network, device)
        inputs = [torch.empty(shape, device=device) for shape in shapes]
        if isinstance(network, MAE):
            stream = network.decoder_features(*inputs)
            outputs = network.drop_class_token(stream), network.reconstruct(stream)
        else:
            outputs = network(*inputs)
        for output in outputs if isinstance(outputs, tuple) else (outputs,):
            assert output.device == device
            assert output.dtype == torch.float32
