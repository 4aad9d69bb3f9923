"""The generator of workflows/ and subgraphs/: `bash scripts/workflows.sh`.

`graph.py` draws a graph in both of ComfyUI's formats and `blueprint.py` a graph inside one node; `shipped.py` and `boxes.py`
describe what is shipped, with the groups of nodes in `steps.py`, the files in `models.py` and the texts in `notes.py`.
"""
