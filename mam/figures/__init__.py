"""Figures of a memory: pure functions from values to Plotly figures, for the page and the notebooks alike.

Nothing here reads a store or a network.
"""

from mam.figures.training import learning
from mam.figures.turn import heat_map, score_parts, stages
from mam.figures.whatif import next_tokens

__all__ = ["heat_map", "learning", "next_tokens", "score_parts", "stages"]
