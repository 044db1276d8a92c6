"""A Plotly figure on the page whose points can be clicked and lassoed: `gr.Plot` has no such events.

`select` carries {"pick": customdata of a point} for a click and {"lasso": [customdata, ...]} for a selection. Both come
from a browser and can be forged: look every id up in the space of whoever asks.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import gradio as gr
import plotly
import plotly.graph_objects as go

from mam.web.here import script

LIBRARY = Path(plotly.__file__).parent / "package_data"  # served to the page: no request leaves the machine
SCRIPT = f"/gradio_api/file={LIBRARY / 'plotly.min.js'}"
# Reading plotly.js takes a browser about a second: it does so while nobody waits, or with the first figure.
AHEAD = f"""<script>
window.withPlotly = () => window.plotlyRead ??= new Promise(done => {{
  const code = document.createElement("script");
  code.src = "{SCRIPT}";
  code.onload = done;
  document.head.append(code);
}});
{{
  const idle = window.requestIdleCallback ?? setTimeout, soon = () => setTimeout(() => idle(window.withPlotly), 1000);
  document.readyState === "complete" ? soon() : addEventListener("load", soon);
}}
</script>"""


def plot(label: str, **more) -> gr.HTML:
    """A place for a figure whose JSON is the value (see `drawn`); empty while there is none."""
    gr.set_static_paths([LIBRARY])
    return gr.HTML(
        value="",
        html_template=f'<div class="plot" role="img" aria-label="{escape(label)}"></div>',
        js_on_load=script("plot.js"),
        **more,
    )


def drawn(figure: go.Figure | None) -> str:
    """The value of a `plot`."""
    return "" if figure is None else figure.to_json()
