"""The miniature's base model: a stand-in for SD-1.5 inpainting, small enough to train anywhere."""
