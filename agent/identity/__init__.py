"""Who is calling: issuers, key sets and how they are kept fresh."""
