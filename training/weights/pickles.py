"""The weights in PyTorch pickles, read without executing anything."""

import re
from pathlib import Path

import torch
from torch import Tensor

from asuka_modules.weight_file import CheckpointError, NoNetworkError, is_pickle, other_kind

PICKLES = {".pth", ".pt", ".ckpt", ".bin"}
WRAPPERS = ("state_dict", "model")  # where training checkpoints keep the weights


class Inert:
    """Stands in for what training checkpoints hold beside weights: takes anything, does nothing."""

    def __new__(cls, *_):
        return super().__new__(cls)

    def __setstate__(self, state):
        pass


HARMLESS = [  # options, PyTorch Lightning's bookkeeping, learning rates that numpy computed
    (Inert, "argparse.Namespace"),
    (Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    (Inert, "numpy.core.multiarray.scalar"),
    (Inert, "numpy._core.multiarray.scalar"),
    (Inert, "numpy.dtype"),
]


def read_pickle(path: Path) -> Tensor | dict[str, Tensor]:
    """The weights in a PyTorch pickle. Nothing in it is executed: CheckpointError for one that asks for more."""
    if torch.__version__ < "2.6":  # it compares as a version
        raise CheckpointError(f"{path}: torch {torch.__version__} cannot read it safely; 2.6 or newer is needed")
    try:
        with torch.serialization.safe_globals(HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in any way
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted:
            raise NoNetworkError(f"{path}: refused: it asks to run {wanted[1]}, expected were tensors only") from error
        found = "damaged; download it again" if is_pickle(path) else other_kind(path)
        if not found:
            raise NoNetworkError(f"{path}: not readable as PyTorch weights, but another kind of file") from error
        raise CheckpointError(f"{path}: not readable as PyTorch weights; {found}") from error
    if isinstance(content, Tensor):
        return content
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise NoNetworkError(f"{path}: holds a {type(content).__name__}, not weights by name")
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}
