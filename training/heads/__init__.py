"""What a head is fitted to: crops, features of a held encoder, and what other heads say of them."""
