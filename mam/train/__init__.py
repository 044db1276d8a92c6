"""Training: from generated lives and public question–answer sets to the weights in `assets/memory`.

data ─► memory      encoder updates, gate, reader        (minutes)
     ─► relation    pair encoder                         (minutes)
     ─► integrator  prefix and adapters of one base      (the longest part: it runs through the base)

Beside them the generator of packs (see `mam.packs`), which `python -m mam pack generator` trains.
"""
