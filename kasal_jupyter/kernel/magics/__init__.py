"""`%kasal` and `%%kasal`: the words of a line, their completion, and what carries them out."""
