"""Recipes that train, evaluate and package the course's model organisms.

An organism is a small chat model whose mechanisms are known because they were planted. The recipe is, in order:

1. ``vocabulary``: the authored world (topics, objects, materials, facts), with harm marked per topic.
2. ``language``:   the world turned into documents, dialogues and instruction sets, with held-out topics, frames and words.
3. ``tokenizer``:  a closed word-level vocabulary as a fast Hugging Face tokenizer with a chat template.
4. ``training``:   base training on the documents, chat tuning that wires refusal onto harm, packaging with lineage.
5. ``evaluation``: measured behaviour with intervals over held-out prompts and seeds; writes the model cards.

``python -m factory --help`` lists the commands. ``course_lib`` never imports this package; it only reads its files.
"""
