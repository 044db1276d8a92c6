"""The web page: a thin shell around the Python API, as the command line is.

page      what is where, and which event calls what
desk      what the events do: a few calls of the public API each
panels    values to HTML, everything escaped
theme     colours and type (with assets/style.css)
"""
