"""`python -m nextscale`, and with it `torchrun -m nextscale`."""

import sys

from nextscale.cli.main import main

sys.exit(main())
