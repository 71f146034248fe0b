"""Pages to read, print and forward: one HTML file each, without script and without network (D103).

What belongs here: the look. The parts that pages consist of (`parts`), the geometry of charts (`charts`), the templates
and the one style sheet that they share. What stays out: what a page is about; that is decided by who renders it.
"""
