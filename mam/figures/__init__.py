"""Figures of a memory: pure functions from values to Plotly figures, for the page and the notebooks alike.

Nothing here reads a store or a network.
"""

from mam.figures.map import Question, Shade, memory_map, question, shade
from mam.figures.packs import with_packs
from mam.figures.timeline import raster
from mam.figures.training import learning
from mam.figures.turn import heat_map, score_parts, stages
from mam.figures.whatif import next_tokens

__all__ = [
    "Question", "Shade", "heat_map", "learning", "memory_map", "next_tokens", "question", "raster", "score_parts",
    "shade", "stages", "with_packs",
]  # fmt: skip
