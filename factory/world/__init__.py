"""The authored world: what can be said, asked and answered, and the texts and prompt sets made of it."""
