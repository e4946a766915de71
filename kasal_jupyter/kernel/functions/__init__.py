"""Functions of the notebook as tools of its crews: described, called, answered."""
