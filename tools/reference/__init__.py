"""Pages for readers, drawn from the tables that devices work by: `python -m tools.reference [-o DIRECTORY]`.

`declared` finds what there is; `registers`, … each make a page of it; `page` is the frame that all have: style, search.
"""
