"""The web page: a thin shell around the Python API, as the command line is.

page      which view is where
desk      who asks, and the space they get
here      what the views pass on to each other
talk      the conversation
inside    a turn, with figures (`plot`)
memory    the table of slots; slot: the page of one; files: in, out and purging; report: what came of a change
packs     knowledge in weights: the shelf and one pack (`shelf`: their HTML); asking, reflections: its questions;
          carry: files too large for an event
theme     colours and type (with assets/style.css)
"""
