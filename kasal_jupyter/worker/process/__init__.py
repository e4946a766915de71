"""The process of a run: the zygote that it is forked from, its way out, its end."""
