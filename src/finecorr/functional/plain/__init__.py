"""The losses in few operations, for the batches that most trainings have: float32, without groups,
in which no label is missing.

Value and gradient are taken at once, without autograd. Whether the arithmetic holds is in a few
numbers, which are looked at once; where it does not, a function returns None, and its caller takes
the general form. Second derivatives are those of the general form, too.
"""
