"""The gate: may a change be merged? Two states of the code, compared on one machine."""
