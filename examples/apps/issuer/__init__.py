"""An issuer of tokens for the demo."""
