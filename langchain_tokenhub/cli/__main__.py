"""`python -m langchain_tokenhub.cli`: the command where its script is not on the path."""

from __future__ import annotations

import sys

from langchain_tokenhub.cli import main

sys.exit(main())
