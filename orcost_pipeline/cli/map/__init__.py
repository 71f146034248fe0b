"""`orcost map`: the mapping as its author works on it: what it says, would move, lacks, and said before."""
