"""Packs: knowledge in weights, the recipe of MeMo (arXiv 2605.15156), beside the slots.

A body of text becomes reflections (questions with answers), and these train low-rank adapters on a small causal LM of
its own, the memory LM, one adapter for each shard of documents. The executive, the base that speaks, stays frozen.

    text ─► reflect ◄─ generator        documents to sentences, sentences to reflections: five steps
               │ verify                 a pair is kept if the memory model, reading its source as slots, says the same
               ▼
            build ─► training ─► weights        one shard after the other; everything can be interrupted
               │
             background    the same beside other work: watched, paused
             store    files of a pack: JSON and safetensors with their hashes       exchange   one file to hand on
             erase    exact deletion, with a certificate
             places   what was learned on the map of the slots
             protocol how the executive questions a pack        shelf    the packs of a user, mounted in sessions

A shard is a function of its documents, its settings and a seed, of nothing else. So deleting a document is building
the shard without it, and what was computed for the other documents is still there to go on from.
"""
