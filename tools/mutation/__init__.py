"""A mutation score of the rings and the register code: small changes of the code that some test should see.

cosmic-ray's operators make the mutants; a seeded sample of them runs against the tests that concern each module. No
file is changed: a mutant is what the import system gives to one forked pytest.
"""
