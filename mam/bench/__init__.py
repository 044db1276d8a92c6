"""Benchmarks: does the memory remember, change, stay out of the way, read real text, and how fast?

Every benchmark drives the public API and compares with baselines on the same frozen base: on held-out lives (kinds of
fact, phrasings and values that training never saw), and on public data sets with their own metrics. Nothing here is
imported by the rest of the package.

    common ─ settings, a world (base + memory model), lives told to a space, results as JSON      parts ─ resumed runs
    scoring ─ when is a reply right       prompts, baselines ─ what memory has to beat       tune ─ chooses prompts
    recall, edit, noharm, gate, latency, store, page, serve ─ one benchmark each: `run(world, settings) -> results`
    sets ─ public data sets               metrics ─ their published metrics                timing, growth ─ for latency
    locomo, reading, longtext (LongBench, SCROLLS), packs ─ benchmarks on them
    readme, report ─ tables and figures of the results
"""
