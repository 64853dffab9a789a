"""`python -m devmodels.qtest`."""

from devmodels.qtest.main import main

main()
