"""`python -m gradrace.cli`."""

from gradrace.cli import main

raise SystemExit(main())
