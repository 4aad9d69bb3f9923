"""The paper's own numbers (v2): MISATO at 512 pixels, SD-1.5, to be read beside ours by the name of the method."""

COLUMNS = ("lpips", "fid", "u", "p")
PAPER = {
    "SD": (0.168, 12.812, 0.345, 0.211),
    "SD-text": (0.164, 12.603, 0.337, 0.207),
    "SD-prompt": (0.160, 12.517, 0.331, 0.204),
    "SD-RePaint": (0.227, 27.861, 0.016, 0.007),
    "LaMa": (0.155, 15.436, 0.260, 0.135),
    "MAT": (0.176, 17.261, 0.255, 0.122),
    "MAE-FAR": (0.142, 13.283, 0.282, 0.153),
    "Co-Mod": (0.179, 17.421, 0.243, 0.109),
    "ASUKA": (0.150, 11.460, 0.368, 0.256),
    "alignment linear": (0.155, 11.934, 0.361, 0.227),
    "alignment attn": (0.152, 11.613, 0.362, 0.234),
    "alignment cross4": (0.152, 11.762, 0.368, 0.238),
    "alignment self4": (0.150, 11.460, 0.368, 0.256),
    "decoder stock": (0.156, 11.949, 0.343, 0.208),
    "decoder condition": (0.151, 11.634, 0.361, 0.231),
    "decoder colour": (0.152, 11.603, 0.357, 0.229),
    "decoder full": (0.150, 11.460, 0.368, 0.256),
}
