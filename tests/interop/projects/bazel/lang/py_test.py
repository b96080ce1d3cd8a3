import sys

sys.exit(sum(range(10)) != 45)
