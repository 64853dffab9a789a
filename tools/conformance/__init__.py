"""What specifications demand, statement by statement, and where the project shows that it holds.

`python -m tools.conformance` writes docs/conformance.md and docs/conformance.html from the tables in
`conformance/`; `python -m tools.conformance extract CHECKOUT` holds VIRTIO's table against a checkout of the
specification.
"""
