"""Money: amounts, the double-entry ledger and its store, and what is sold, tipped and held on top of it."""
