"""Benchmarks: does the memory remember, change, stay out of the way, and how fast?

Every benchmark drives the public API on held-out lives (kinds of fact, phrasings and values that training never
saw) and compares with baselines on the same frozen base. Nothing here is imported by the rest of the package.

    common ─ settings, a world (base + memory model), lives told to a space, results as JSON
    scoring ─ when is a reply right       prompts, baselines ─ what memory has to beat       tune ─ chooses prompts
    recall, edit, noharm, gate, latency, store, page, serve ─ one benchmark each: `run(world, settings) -> results`
"""
