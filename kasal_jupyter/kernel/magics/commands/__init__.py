"""What the sub-commands of `%kasal` do."""
